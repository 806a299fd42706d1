//! `carrack pause`

use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack pause web
  carrack unpause web";

/// Lets all processes of containers stand still until they are unpaused.
#[derive(Args)]
pub struct Pause {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Command for Pause {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        super::for_each(&self.containers, |container| {
            engine.pause(container)?;
            print_line(container)
        })
    }
}
