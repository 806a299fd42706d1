//! `carrack run`

use carrack_engine::DetachKeys;
use clap::{ArgAction, Args};

use super::Command;
use super::container_flags::ContainerFlags;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::print_line;
use crate::terminal::{self, Attendance};

pub const EXAMPLES: &str = "Examples:
  carrack run --rm -it debian:bookworm bash
  carrack run -d --name web -p 8080:80 -m 256m --pids-limit 100 registry.example/team/app
  carrack run --rm --network none --read-only --tmpfs /tmp app
  carrack run --rm -v \"$PWD:/work:ro\" -w /work app make";

/// Runs a command in a new container. The exit code is that of the command; 125 when carrack failed, 126 when the
/// command cannot be executed, 127 when it is not found, 128 and the number of the signal that ended it.
#[derive(Args)]
pub struct Run {
    /// Leave the container running, and print its ID
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the session, as in ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
    /// Pass signals on to the container
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    sig_proxy: bool,
    #[command(flatten)]
    flags: ContainerFlags,
}

impl Command for Run {
    fn run(self, context: &Context) -> Result<u8> {
        self.run_container(context).map_err(Failure::of_run)
    }
}

impl Run {
    fn run_container(mut self, context: &Context) -> Result<u8> {
        let engine = self.flags.engine(context)?;
        let (interactive, tty) = (self.flags.interactive, self.flags.tty);
        let (detach_keys, proxy_signals) = (self.detach_keys, self.sig_proxy);
        let id = self.flags.create(&engine, !self.detach)?;
        let session = engine.start_new(&id)?;
        if self.detach {
            print_line(&id)?;
            return Ok(0);
        }
        let attendance = Attendance::new(interactive, tty);
        terminal::attend(&session, Attendance { detach_keys, proxy_signals, ..attendance })
    }
}
