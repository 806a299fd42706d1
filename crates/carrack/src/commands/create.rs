//! `carrack create`

use clap::Args;

use super::Command;
use super::container_flags::ContainerFlags;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack create --name web -p 8080:80 app
  carrack start web";

/// Creates a container without starting it, and prints its ID.
#[derive(Args)]
pub struct Create {
    #[command(flatten)]
    flags: ContainerFlags,
}

impl Command for Create {
    fn run(mut self, context: &Context) -> Result<u8> {
        let engine = self.flags.engine(context)?;
        let id = self.flags.create(&engine).map_err(Failure::of_run)?;
        print_line(id)?;
        Ok(0)
    }
}
