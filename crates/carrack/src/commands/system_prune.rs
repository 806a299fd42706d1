//! `carrack system prune`

use carrack_engine::SystemPrune;
use clap::Args;

use super::{Command, print_pruned};
use crate::confirm::confirm;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;
use crate::units::format_bytes;

pub const EXAMPLES: &str = "Examples:
  carrack system prune
  carrack system prune --all --force
  carrack system prune --filter until=24h --filter label=team=web";

/// Removes stopped containers, images that no container was made of, the build cache and what crashes left.
#[derive(Args)]
pub struct Prune {
    /// Remove all unused images, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Remove volumes that no container has and that no user has named too
    #[arg(long)]
    volumes: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only what was created before a time or a duration ago (until=24h), or has a label (label=KEY[=VALUE])
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

impl Command for Prune {
    fn run(self, context: &Context) -> Result<u8> {
        if !self.force && !confirm(&self.warning())? {
            return Ok(0);
        }
        let pruned = context.engine()?.prune_system(&SystemPrune {
            all: self.all,
            volumes: self.volumes,
            filters: self.filter,
        })?;
        if !pruned.containers.is_empty() {
            print_line("Deleted Containers:")?;
            pruned.containers.iter().try_for_each(print_line)?;
            print_line("")?;
        }
        if !pruned.volumes.is_empty() {
            print_line("Deleted Volumes:")?;
            pruned.volumes.iter().try_for_each(print_line)?;
            print_line("")?;
        }
        print_pruned(&pruned.images)?;
        if pruned.cache_entries > 0 {
            print_line(format_args!("Deleted build cache entries: {}\n", pruned.cache_entries))?;
        }
        print_line(format_args!("Total reclaimed space: {}", format_bytes(pruned.reclaimed_bytes)))?;
        Ok(0)
    }
}

impl Prune {
    fn warning(&self) -> String {
        let images = match self.all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        };
        let mut lines = vec!["all stopped containers", images];
        if self.volumes {
            lines.push("all anonymous volumes not used by at least one container");
        }
        // A filter that names what the build cache does not know spares it.
        if self.filter.is_empty() {
            lines.push("all build cache");
        }
        let lines: String = lines.iter().map(|line| format!("\n  - {line}")).collect();
        format!("This will remove:{lines}\n")
    }
}
