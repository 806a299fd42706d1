//! `exec`.

use std::path::PathBuf;

use carrack_engine::runtime::oci::{Command, Executed};
use carrack_engine::runtime::{Inherited, capabilities, descriptors_from_3};
use clap::Args;

use super::relay::{self, Attended};
use super::{Context, absolute, listen_fds};
use crate::failure::{Failure, Result, invalid};

/// Runs a further program in a container.
#[derive(Args)]
pub struct Exec {
    /// File with a process of the specification
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Socket that gets the master of the terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// File that gets the pid
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Do not wait for its end
    #[arg(short, long)]
    detach: bool,
    /// Run on a terminal
    #[arg(short, long)]
    tty: bool,
    /// User and group, names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Further group ids
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Set a variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Working folder
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Further capabilities
    #[arg(short, long, value_name = "NAME")]
    cap: Vec<String>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Let it gain no privileges
    #[arg(long)]
    no_new_privs: bool,
    /// Start it in a paused container too
    #[arg(long)]
    ignore_paused: bool,
    /// Pass so many descriptors from number 3 on, and those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// The id of the container
    #[arg(value_name = "ID")]
    id: String,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Exec {
    /// What the process takes over.
    pub fn inherited(&self) -> Inherited {
        let descriptors = descriptors_from_3(self.preserve_fds.saturating_add(listen_fds()));
        Inherited { session_keyring: false, descriptors }
    }

    pub fn run(self, context: &Context) -> Result<u8> {
        let capability = |name: &String| {
            capabilities::parse(name)
                .ok_or_else(|| invalid("--cap", name, "a capability, as in CAP_NET_ADMIN"))
        };
        let command = Command {
            capabilities: self.cap.iter().map(capability).collect::<Result<_>>()?,
            inherited: self.inherited(),
            process_file: self.process,
            arguments: self.command,
            env: self.env,
            cwd: self.cwd,
            user: self.user,
            groups: self.additional_gids,
            no_new_privileges: self.no_new_privs,
            terminal: self.tty,
            process_label: self.process_label,
            apparmor: self.apparmor,
            ignore_paused: self.ignore_paused,
            detached_without_console: self.detach && self.console_socket.is_none(),
        };
        let path = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
        let (socket, pid_file) = (path(&self.console_socket)?, path(&self.pid_file)?);
        let container = context.runtime.find(&self.id)?;
        if self.detach && socket.is_none() && command.terminal {
            return Err(Failure::message("a detached process with a terminal needs --console-socket"));
        }
        let signals = relay::take_signals()?;
        let Executed { running, console } =
            container.exec(&command, socket.as_deref(), pid_file.as_deref())?;
        if self.detach {
            return Ok(0);
        }
        relay::attend(Attended { running, console }, signals)
    }
}
