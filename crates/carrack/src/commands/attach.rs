//! `carrack attach`

use carrack_engine::DetachKeys;
use clap::{ArgAction, Args};

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::terminal::{self, Attendance};

pub const EXAMPLES: &str = "Examples:
  carrack attach web
  carrack attach --no-stdin --sig-proxy=false web";

/// Connects standard input and output with a running container, and exits with its exit code.
#[derive(Args)]
pub struct Attach {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Do not connect standard input
    #[arg(long)]
    no_stdin: bool,
    /// Keys that leave the session, as in ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
    /// Pass signals on to the container
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    sig_proxy: bool,
}

impl Command for Attach {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let program = engine.find_container(&self.container)?.record.program;
        let interactive = program.open_stdin && !self.no_stdin;
        let session = engine.attach(&self.container, interactive)?;
        let (detach_keys, proxy_signals) = (self.detach_keys, self.sig_proxy);
        let attendance = Attendance::new(interactive, program.tty);
        terminal::attend(&session, Attendance { detach_keys, proxy_signals, ..attendance }.begin()?)
    }
}
