//! `carrack restart`

use clap::Args;

use super::Command;
use super::selection::Selection;
use super::stop_flags::StopFlags;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack restart web
  carrack restart --time 2 web
  carrack restart --all --running";

/// Stops containers and starts them again; those that do not run are only started.
#[derive(Args)]
pub struct Restart {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    how: StopFlags,
    /// Of all containers only those that run
    #[arg(long, requires = "all")]
    running: bool,
}

impl Command for Restart {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let (wish, running) = (self.how.wish(), self.running);
        let suits = |container: &carrack_engine::Container| !running || container.state.status.is_active();
        let containers = self.selection.resolve(&engine, suits)?;
        super::for_each(&containers, |container| {
            engine.restart(container, &wish)?;
            print_line(container)
        })
    }
}
