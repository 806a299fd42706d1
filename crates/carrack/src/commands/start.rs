//! `carrack start`

use carrack_engine::{DetachKeys, Signals, Status};
use clap::{ArgAction, Args};

use super::Command;
use super::selection::Selection;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;
use crate::terminal::{self, Attendance};

pub const EXAMPLES: &str = "Examples:
  carrack start web
  carrack start --attach --interactive shell";

/// Starts containers that do not run.
#[derive(Args)]
pub struct Start {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["all", "filter", "latest"])]
    containers: Vec<String>,
    /// Every container that does not run
    #[arg(long)]
    all: bool,
    /// Only containers that this is true of, as in label=team=sea
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// The container that was created last
    #[arg(short, long)]
    latest: bool,
    /// Show the output, and exit with the container's exit code; one container only
    #[arg(short, long)]
    attach: bool,
    /// Connect standard input
    #[arg(short, long, requires = "attach")]
    interactive: bool,
    /// Keys that leave the session, as in ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS", requires = "attach")]
    detach_keys: Option<DetachKeys>,
    /// Pass signals on to the container
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", requires = "attach")]
    sig_proxy: bool,
}

impl Command for Start {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let Self { containers, all, filter, latest, .. } = self;
        let selection = Selection { containers, all, filter, cidfile: Vec::new(), latest };
        let containers = selection.resolve(&engine, |container| !container.state.status.is_active())?;
        if self.attach {
            let [container] = &containers[..] else {
                return Err(crate::failure::invalid("--attach", &containers.join(" "), "one container"));
            };
            let record = engine.find_container(container)?.record;
            let attendance = Attendance::new(self.interactive, record.program.tty);
            let (detach_keys, proxy_signals) = (self.detach_keys, self.sig_proxy);
            let mut attendant = Attendance { detach_keys, proxy_signals, ..attendance }.begin()?;
            let start = |signals: Signals<'_>| engine.start_attached(&record.id, signals);
            return terminal::attend(&attendant.while_starting(start)?, attendant);
        }
        super::for_each(&containers, |container| {
            let found = engine.find_container(container)?;
            // As in Docker: what runs is started already.
            if found.state.status != Status::Running {
                engine.start(&found.record.id)?;
            }
            print_line(container)
        })
    }
}
