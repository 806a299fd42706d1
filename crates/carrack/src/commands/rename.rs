//! `carrack rename`

use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;

pub const EXAMPLES: &str = "Examples:
  carrack rename hopeful web";

/// Gives a container another name.
#[derive(Args)]
pub struct Rename {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The new name
    #[arg(value_name = "NAME")]
    name: String,
}

impl Command for Rename {
    fn run(self, context: &Context) -> Result<u8> {
        context.engine()?.rename(&self.container, &self.name)?;
        Ok(0)
    }
}
