//! `carrack stop`

use std::time::Duration;

use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack stop web
  carrack stop --time 2 web";

/// Asks containers to end, and kills those that do not in time.
#[derive(Args)]
pub struct Stop {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// Seconds to wait before killing; without it the container's own, else 10
    #[arg(short, long, value_name = "SECONDS")]
    time: Option<u64>,
}

impl Command for Stop {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let timeout = self.time.map(Duration::from_secs);
        super::for_each(&self.containers, |container| {
            engine.stop(container, timeout)?;
            print_line(container)
        })
    }
}
