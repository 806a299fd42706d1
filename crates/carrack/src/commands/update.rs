//! `carrack update`

use carrack_engine::{Resources, RestartPolicy};
use clap::Args;

use super::Command;
use super::container_flags::LimitFlags;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack update --memory 512m web
  carrack update --cpus 1.5 --pids-limit 200 web worker
  carrack update --restart unless-stopped web";

/// Changes the limits of containers, at once where they run, and their restart policies.
#[derive(Args)]
pub struct Update {
    #[command(flatten)]
    limits: LimitFlags,
    /// When it is started again after it ends: no, on-failure[:COUNT], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Command for Update {
    fn run(self, context: &Context) -> Result<u8> {
        let changes = self.limits.limits()?;
        if changes == Resources::default() && self.restart.is_none() {
            return Err(Failure::message("you must provide one or more flags when using this command"));
        }
        let engine = context.engine()?;
        super::for_each(&self.containers, |container| {
            engine.update_container(container, self.restart, &changes)?;
            print_line(container)
        })
    }
}
