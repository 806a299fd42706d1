//! `events`: what a container uses, as runc prints it, and when the kernel killed a process of it for want of memory.

use std::thread::sleep;
use std::time::{Duration, Instant};

use carrack_engine::runtime::oci::{Container, Status};
use clap::Args;
use serde_json::{Value, json};

use super::Context;
use crate::failure::{Result, invalid};
use crate::output;

/// Shows what a container uses.
#[derive(Args)]
pub struct Events {
    /// Show it once and end
    #[arg(long)]
    stats: bool,
    /// Time between two showings, as in 5s or 500ms
    #[arg(long, value_name = "TIME", default_value = "5s")]
    interval: String,
    /// The id of the container
    #[arg(value_name = "ID")]
    id: String,
}

/// How often want of memory is looked for.
const TICK: Duration = Duration::from_millis(100);

impl Events {
    pub fn run(self, context: &Context) -> Result<u8> {
        let interval = duration(&self.interval)?;
        let container = context.runtime.find(&self.id)?;
        if container.status()? == Status::Stopped {
            return Err(crate::failure::Failure::message(format!(
                "cannot show events of the container {}: container not running",
                self.id
            )));
        }
        if self.stats {
            print(&self.id, "stats", Some(&container))?;
            return Ok(0);
        }
        let mut kills = container.oom_kills()?;
        let mut next = Instant::now() + interval;
        while container.status()? != Status::Stopped {
            let now = container.oom_kills().unwrap_or(kills);
            if now > kills {
                print(&self.id, "oom", None)?;
            }
            kills = now;
            if Instant::now() >= next {
                print(&self.id, "stats", Some(&container))?;
                next += interval;
            }
            sleep(TICK);
        }
        Ok(0)
    }
}

fn print(id: &str, kind: &str, of: Option<&Container>) -> Result<()> {
    let data = of.map_or(Ok(Value::Null), Container::usage)?;
    let mut event = json!({ "type": kind, "id": id });
    if !data.is_null() {
        event["data"] = data;
    }
    output::print_line(event)
}

fn duration(text: &str) -> Result<Duration> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    parsed
        .filter(|time| !time.is_zero())
        .ok_or_else(|| invalid("--interval", text, "a time, as in 5s or 500ms"))
}
