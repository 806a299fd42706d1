//! `carrack unpause`

use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

/// Lets paused containers go on.
#[derive(Args)]
pub struct Unpause {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Command for Unpause {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        super::for_each(&self.containers, |container| {
            engine.unpause(container)?;
            print_line(container)
        })
    }
}
