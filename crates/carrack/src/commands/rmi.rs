//! `carrack rmi`

use carrack_engine::Removed;
use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack rmi app:1.2
  carrack rmi --force 3f1c2a";

/// Removes images: their names, and with the last name all that nothing else uses.
#[derive(Args)]
pub struct Rmi {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Remove an image that was given by ID with all its names
    #[arg(short, long)]
    force: bool,
}

impl Command for Rmi {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        super::for_each(&self.images, |image| {
            for removed in engine.remove_image(image, self.force)? {
                match removed {
                    Removed::Untagged(name) => print_line(format_args!("Untagged: {name}"))?,
                    Removed::Deleted(id) => print_line(format_args!("Deleted: {id}"))?,
                }
            }
            Ok(())
        })
    }
}
