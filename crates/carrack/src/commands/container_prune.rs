//! `carrack container prune`

use clap::Args;

use super::Command;
use crate::confirm::confirm;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

/// Removes every container that does not run.
#[derive(Args)]
pub struct Prune {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Command for Prune {
    fn run(self, context: &Context) -> Result<u8> {
        if !self.force && !confirm("This will remove all stopped containers.")? {
            return Ok(0);
        }
        let removed = context.engine()?.prune_containers()?;
        if !removed.is_empty() {
            print_line("Deleted Containers:")?;
        }
        removed.iter().try_for_each(print_line).map(|()| 0)
    }
}
