//! `carrack wait`

use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

/// Waits until containers stop, and prints their exit codes.
#[derive(Args)]
pub struct Wait {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Command for Wait {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        super::for_each(&self.containers, |container| print_line(engine.wait(container)?))
    }
}
