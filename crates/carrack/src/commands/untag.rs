//! `carrack untag`

use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

/// Takes names from an image; the image stays.
#[derive(Args)]
pub struct Untag {
    /// The image: a name or ID
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The names to take; without any, all
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

impl Command for Untag {
    fn run(self, context: &Context) -> Result<u8> {
        for name in context.engine()?.untag(&self.image, &self.names)? {
            print_line(format_args!("Untagged: {name}"))?;
        }
        Ok(0)
    }
}
