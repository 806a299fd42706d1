//! `carrack manifest add`

use carrack_engine::AddOptions;
use clap::Args;

use super::{Command, EntryFlags};
use crate::commands::registry_flags::RegistryFlags;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;
use crate::progress::Progress;

pub const EXAMPLES: &str = "Examples:
  carrack manifest add app:1 app-arm64:1
  carrack manifest add app:1 --arch arm64 --variant v8 docker://registry.example/app:1-arm64
  carrack manifest add app:1 --all docker://registry.example/app:1";

/// Adds images to a manifest list: of this machine, or else of a registry. Of an index the image for this machine is
/// added.
#[derive(Args)]
pub struct Add {
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
    /// Names or IDs, or references of a registry
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Add every image of an index
    #[arg(long, conflicts_with_all = ["arch", "os", "variant"])]
    all: bool,
    #[command(flatten)]
    entry: EntryFlags,
    #[command(flatten)]
    registry: RegistryFlags,
}

impl Command for Add {
    fn run(self, context: &Context) -> Result<u8> {
        let options = AddOptions { all: self.all, change: self.entry.change()? };
        let engine = self.registry.apply(context).engine()?;
        let progress = Progress::new(true);
        let list =
            engine.add_to_list(&self.list, &self.images, &options, &|event| progress.observe(event))?;
        print_line(list.descriptor().digest)?;
        Ok(0)
    }
}
