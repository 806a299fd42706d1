//! `carrack start`

use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;
use crate::terminal;

pub const EXAMPLES: &str = "Examples:
  carrack start web
  carrack start --attach --interactive shell";

/// Starts containers that do not run.
#[derive(Args)]
pub struct Start {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// Show the output, and exit with the container's exit code; one container only
    #[arg(short, long)]
    attach: bool,
    /// Connect standard input
    #[arg(short, long, requires = "attach")]
    interactive: bool,
}

impl Command for Start {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        if self.attach {
            let [container] = &self.containers[..] else {
                return Err(crate::failure::invalid("--attach", &self.containers.join(" "), "one container"));
            };
            let record = engine.find_container(container)?.record;
            let session = engine.start(&record.id)?;
            return terminal::attend(&session, self.interactive, record.program.tty);
        }
        super::for_each(&self.containers, |container| {
            engine.start(&engine.find_container(container)?.record.id)?;
            print_line(container)
        })
    }
}
