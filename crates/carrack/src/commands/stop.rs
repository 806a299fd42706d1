//! `carrack stop`

use clap::Args;

use super::Command;
use super::selection::Selection;
use super::stop_flags::StopFlags;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack stop web
  carrack stop --time 2 web
  carrack stop --all";

/// Asks containers to end, and kills those that do not in time.
#[derive(Args)]
pub struct Stop {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    how: StopFlags,
    /// Do not mind containers that are not there
    #[arg(short, long)]
    ignore: bool,
}

impl Command for Stop {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let (wish, ignore) = (self.how.wish(), self.ignore);
        let containers = self.selection.resolve(&engine, |container| container.state.status.is_active())?;
        super::for_each(&containers, |container| match engine.stop(container, &wish) {
            Err(error) if ignore && error.is_no_such_container() => Ok(()),
            result => result.map_err(Failure::from).and_then(|()| print_line(container)),
        })
    }
}
