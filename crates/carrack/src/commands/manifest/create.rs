//! `carrack manifest create`

use carrack_engine::{AddOptions, EntryChange};
use clap::Args;

use super::Command;
use crate::commands::registry_flags::RegistryFlags;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;
use crate::progress::Progress;

pub const EXAMPLES: &str = "Examples:
  carrack manifest create app:1
  carrack manifest create app:1 app-amd64:1 docker://registry.example/app:1-arm64
  carrack manifest create --amend app:1 app-riscv64:1";

/// Makes a manifest list.
#[derive(Args)]
pub struct Create {
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
    /// Images to begin with: names or IDs, or references of a registry
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// Add to a list that exists
    #[arg(short, long)]
    amend: bool,
    /// Add every image of an index
    #[arg(long)]
    all: bool,
    /// Annotations of the list
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,
    #[command(flatten)]
    registry: RegistryFlags,
}

impl Command for Create {
    fn run(self, context: &Context) -> Result<u8> {
        let annotations = super::annotations(&self.annotations)?;
        let options =
            AddOptions { all: self.all, change: EntryChange { annotations, ..EntryChange::default() } };
        let engine = self.registry.apply(context).engine()?;
        let progress = Progress::new(true);
        let list = engine.create_list(&self.list, &self.images, (self.amend, &options), &|event| {
            progress.observe(event)
        })?;
        print_line(list.descriptor().digest)?;
        Ok(0)
    }
}
