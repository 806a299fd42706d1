//! `carrack init`

use carrack_engine::Status;
use clap::Args;

use super::Command;
use super::selection::Selection;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack create --name web app && carrack init web
  carrack init --all";

/// Sets containers up without running their programs: namespaces, mounts, network and first process are there, and
/// start only has to execute the program. inspect shows the status initialized. Containers that run cannot be
/// initialized; those that have ended can.
#[derive(Args)]
pub struct Init {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["all", "latest"])]
    containers: Vec<String>,
    /// Every container that was created and never started
    #[arg(short, long)]
    all: bool,
    /// The container that was created last
    #[arg(short, long)]
    latest: bool,
}

impl Command for Init {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let Self { containers, all, latest } = self;
        let selection = Selection { containers, all, filter: Vec::new(), cidfile: Vec::new(), latest };
        let containers = selection.resolve(&engine, |container| container.state.status == Status::Created)?;
        super::for_each(&containers, |container| {
            engine.initialize(container)?;
            print_line(container)
        })
    }
}
