//! `carrack kill`

use carrack_engine::Status;
use clap::Args;

use super::Command;
use super::selection::Selection;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack kill web
  carrack kill --signal HUP web";

/// Sends a signal to the first process of running containers.
#[derive(Args)]
pub struct Kill {
    #[command(flatten)]
    selection: Selection,
    /// Name or number of the signal
    #[arg(short, long, default_value = "KILL")]
    signal: String,
}

impl Command for Kill {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let signal = self.signal;
        let containers =
            self.selection.resolve(&engine, |container| container.state.status == Status::Running)?;
        super::for_each(&containers, |container| {
            engine.kill(container, &signal)?;
            print_line(container)
        })
    }
}
