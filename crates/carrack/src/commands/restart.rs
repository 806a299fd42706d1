//! `carrack restart`

use std::time::Duration;

use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack restart web
  carrack restart --time 2 web";

/// Stops containers and starts them again; those that do not run are only started.
#[derive(Args)]
pub struct Restart {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// Seconds to wait before killing; without it the container's own, else 10
    #[arg(short, long, value_name = "SECONDS")]
    time: Option<u64>,
}

impl Command for Restart {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let timeout = self.time.map(Duration::from_secs);
        super::for_each(&self.containers, |container| {
            engine.restart(container, timeout)?;
            print_line(container)
        })
    }
}
