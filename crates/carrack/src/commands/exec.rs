//! `carrack exec`

use std::path::PathBuf;

use carrack_engine::{DetachKeys, ExecRequest};
use clap::Args;

use super::container_flags::PreservedDescriptors;
use super::{Command, container_flags};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::terminal::{self, Attendance};

pub const EXAMPLES: &str = "Examples:
  carrack exec web ps aux
  carrack exec -it web sh
  carrack exec --user 0 --env DEBUG=1 web env";

/// Runs a command in a running container.
#[derive(Args)]
pub struct Exec {
    /// Connect standard input
    #[arg(short, long)]
    interactive: bool,
    /// Run on a terminal
    #[arg(short, long)]
    tty: bool,
    /// Do not wait for the command
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the session, as in ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
    /// Set a variable (NAME=value), or pass on the caller's (NAME)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// User and group, names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working folder
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Give the command every capability; the container's seccomp profile holds for it all the same
    #[arg(long)]
    privileged: bool,
    #[command(flatten)]
    preserved: PreservedDescriptors,
    /// The container, by name or ID; then the command and its arguments
    // One list: what follows the container is the program's, whatever it looks like.
    #[arg(value_names = ["CONTAINER", "COMMAND"], required = true, num_args = 2.., trailing_var_arg = true)]
    words: Vec<String>,
}

impl Command for Exec {
    fn run(self, context: &Context) -> Result<u8> {
        let descriptors = self.preserved.take().map_err(Failure::of_run)?;
        let (container, command) = container_flags::first_and_rest(self.words);
        let request = ExecRequest {
            env: container_flags::environment(&self.env_file, &self.env)?,
            command,
            user: self.user,
            working_dir: self.workdir,
            privileged: self.privileged,
            tty: self.tty,
            interactive: self.interactive,
            detach: self.detach,
            descriptors,
        };
        let engine = context.engine()?;
        if self.detach {
            engine.exec(&container, request)?;
            return Ok(0);
        }
        let attendance = Attendance::new(self.interactive, self.tty);
        // As in Docker: a signal would reach the container's own program, which is another.
        let attendance = Attendance { detach_keys: self.detach_keys, proxy_signals: false, ..attendance };
        let attendant = attendance.begin()?;
        terminal::attend(&engine.exec(&container, request)?, attendant)
    }
}
