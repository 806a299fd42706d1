//! `carrack container prune`

use clap::Args;

use super::Command;
use crate::confirm::confirm;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;
use crate::units::format_bytes;

/// Removes every container that does not run.
#[derive(Args)]
pub struct Prune {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only containers that this is true of: until=24h, label=team=sea
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

impl Command for Prune {
    fn run(self, context: &Context) -> Result<u8> {
        if !self.force && !confirm("This will remove all stopped containers.")? {
            return Ok(0);
        }
        let engine = context.engine()?;
        let filters = engine.container_filters(&self.filter)?;
        let (removed, bytes) = engine.prune_containers(&filters)?;
        if !removed.is_empty() {
            print_line("Deleted Containers:")?;
            removed.iter().try_for_each(print_line)?;
            print_line("")?;
        }
        print_line(format_args!("Total reclaimed space: {}", format_bytes(bytes)))?;
        Ok(0)
    }
}
