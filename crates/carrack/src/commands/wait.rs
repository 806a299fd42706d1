//! `carrack wait`

use carrack_engine::WaitCondition;
use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack wait web
  carrack wait --condition running web";

/// Waits until containers stop, and prints their exit codes.
#[derive(Args)]
pub struct Wait {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// What to wait for: not-running (the default), next-exit, created, running, stopped, exited, removing or removed;
    /// of several, for the first
    #[arg(long, value_name = "CONDITION", value_delimiter = ',')]
    condition: Vec<WaitCondition>,
    /// How often podman looks; carrack is told
    #[arg(short, long, value_name = "DURATION", hide = true)]
    interval: Option<String>,
    /// Do not mind containers that are not there
    #[arg(long)]
    ignore: bool,
}

impl Command for Wait {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        super::for_each(&self.containers, |container| {
            let exit_code = match engine.wait_for(container, &self.condition) {
                Err(error) if self.ignore && error.is_no_such_container() => None,
                result => result.map_err(Failure::from)?,
            };
            // Podman: what has not ended has no exit code.
            print_line(exit_code.unwrap_or(-1))
        })
    }
}
