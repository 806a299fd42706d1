//! The flags that say how a container is stopped, of `stop` and `restart`.

use std::time::Duration;

use carrack_engine::{Patience, StopWish};
use clap::Args;

#[derive(Args)]
pub struct StopFlags {
    /// Seconds to wait before killing, -1 for ever; without it the container's own, else 10
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
    /// Signal that asks it to end, in place of the container's own
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
}

impl StopFlags {
    /// What is asked of the engine.
    pub fn wish(self) -> StopWish {
        let patience = |seconds| match u64::try_from(seconds) {
            Ok(seconds) => Patience::Limited(Duration::from_secs(seconds)),
            Err(_) => Patience::Unlimited,
        };
        StopWish { signal: self.signal, patience: self.time.map(patience) }
    }
}
