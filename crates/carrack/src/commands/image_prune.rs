//! `carrack image prune`

use carrack_engine::PruneImages;
use clap::Args;

use super::{Command, print_pruned};
use crate::confirm::confirm;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;
use crate::units;

pub const EXAMPLES: &str = "Examples:
  carrack image prune
  carrack image prune --all --force --filter until=24h
  carrack image prune --force --filter label!=keep";

/// Removes images without a name, which no container was made of.
#[derive(Args)]
pub struct Prune {
    /// Remove also images with a name
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only images that pass: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE], and those of `images`
    #[arg(long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
}

impl Command for Prune {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let request = PruneImages { all: self.all, filters: engine.image_filters(&self.filters)? };
        if !self.force && !confirm(&self.warning())? {
            return Ok(0);
        }
        let pruned = engine.prune_images(&request)?;
        print_pruned(&pruned.removed)?;
        let reclaimed = units::format_bytes(pruned.collected.bytes);
        print_line(format_args!("Total reclaimed space: {reclaimed}"))?;
        Ok(0)
    }
}

impl Prune {
    fn warning(&self) -> String {
        let what = match self.all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        };
        let mut warning = format!("This will remove {what}.");
        if !self.filters.is_empty() {
            warning.push_str("\n\nItems to be pruned will be filtered with:");
            self.filters.iter().for_each(|filter| warning.push_str(&format!("\n- {filter}")));
            warning.push('\n');
        }
        warning
    }
}
