//! `carrack tag`

use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;

pub const EXAMPLES: &str = "Examples:
  carrack tag app registry.example/team/app:1.2";

/// Gives an image a further name.
#[derive(Args)]
pub struct Tag {
    /// The image: a name or ID
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The further names
    #[arg(value_name = "TARGET", required = true)]
    targets: Vec<String>,
}

impl Command for Tag {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        for target in &self.targets {
            engine.tag(&self.source, target)?;
        }
        Ok(0)
    }
}
