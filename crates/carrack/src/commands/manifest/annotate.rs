//! `carrack manifest annotate`

use clap::Args;

use super::{Command, EntryFlags};
use crate::context::Context;
use crate::failure::{Failure, Result, USAGE_EXIT_CODE};
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack manifest annotate app:1 app-arm64:1 --arch arm64 --variant v8
  carrack manifest annotate app:1 sha256:... --annotation team=boats
  carrack manifest annotate --index --annotation version=1 app:1";

/// Changes what a manifest list says of one of its images, or of itself.
#[derive(Args)]
pub struct Annotate {
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
    /// The image: the digest of its manifest, its name or ID here, or the reference it was added by
    #[arg(value_name = "IMAGE", required_unless_present = "index", conflicts_with = "index")]
    image: Option<String>,
    /// Set annotations of the list itself
    #[arg(long, requires = "annotations")]
    index: bool,
    #[command(flatten)]
    entry: EntryFlags,
}

impl Command for Annotate {
    fn run(self, context: &Context) -> Result<u8> {
        if self.index && self.entry.has_platform() {
            let message = "--index takes --annotation only: a list as a whole has no platform";
            return Err(Failure::with_exit_code(message, USAGE_EXIT_CODE));
        }
        let (engine, change) = (context.engine()?, self.entry.change()?);
        let list = match &self.image {
            Some(image) => engine.annotate_list(&self.list, image, &change)?,
            None => engine.annotate_index(&self.list, &change.annotations)?,
        };
        print_line(list.descriptor().digest)?;
        Ok(0)
    }
}
