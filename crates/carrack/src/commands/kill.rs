//! `carrack kill`

use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack kill web
  carrack kill --signal HUP web";

/// Sends a signal to the first process of running containers.
#[derive(Args)]
pub struct Kill {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// Name or number of the signal
    #[arg(short, long, default_value = "KILL")]
    signal: String,
}

impl Command for Kill {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        super::for_each(&self.containers, |container| {
            engine.kill(container, &self.signal)?;
            print_line(container)
        })
    }
}
