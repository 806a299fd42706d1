//! `create` and `run`.

use std::path::PathBuf;

use carrack_engine::runtime::oci::{Bundle, Console, Created, Creation};
use carrack_engine::runtime::{Inherited, descriptors_from_3};
use clap::Args;

use super::relay::{self, Attended};
use super::{Context, absolute, listen_fds};
use crate::failure::{Failure, Result};

/// Options of both.
#[derive(Args)]
pub struct Made {
    /// Folder of the bundle
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Socket that gets the master of the terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// File that gets the pid
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Change the root by chroot, for hosts whose root is a ramdisk; a privileged program can leave it
    #[arg(long)]
    no_pivot: bool,
    /// Keep the session keyring of the caller
    #[arg(long)]
    no_new_keyring: bool,
    /// Pass so many descriptors from number 3 on, and those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// The id of the container
    #[arg(value_name = "ID")]
    id: String,
}

/// Makes a container.
#[derive(Args)]
pub struct Create {
    #[command(flatten)]
    pub made: Made,
}

/// Makes a container and runs it.
#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    pub made: Made,
    /// Do not wait for its end
    #[arg(short, long)]
    detach: bool,
    /// Do not delete it at its end
    #[arg(long)]
    keep: bool,
}

impl Made {
    /// What the first process takes over.
    pub fn inherited(&self) -> Inherited {
        Inherited {
            session_keyring: self.no_new_keyring,
            descriptors: descriptors_from_3(self.preserve_fds.saturating_add(listen_fds())),
        }
    }

    fn create(&self, context: &Context, attended: bool) -> Result<Created> {
        context.check_systemd()?;
        let mut bundle = Bundle::open(&self.bundle)?;
        pass_listen_fds(&mut bundle);
        let path = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
        let (socket, pid_file) = (path(&self.console_socket)?, path(&self.pid_file)?);
        let console = match &socket {
            Some(socket) => Console::Socket(socket),
            None if attended => Console::Caller,
            None => Console::Nobody,
        };
        let creation = Creation {
            id: &self.id,
            bundle: &bundle,
            console,
            pid_file: pid_file.as_deref(),
            inherited: self.inherited(),
            pivots: !self.no_pivot,
            systemd: context.systemd_cgroup,
        };
        Ok(context.runtime.create(&creation)?)
    }
}

/// The program learns how many descriptors there are, and that they are meant for process 1.
fn pass_listen_fds(bundle: &mut Bundle) {
    let count = listen_fds();
    if count > 0
        && let Some(process) = bundle.spec.process_mut()
    {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend([format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()]);
        process.set_env(Some(env));
    }
}

impl Create {
    pub fn run(self, context: &Context) -> Result<u8> {
        self.made.create(context, false)?;
        Ok(0)
    }
}

impl Run {
    pub fn run(self, context: &Context) -> Result<u8> {
        let Created { running, console, mut container } = self.made.create(context, !self.detach)?;
        let signals = relay::take_signals()?;
        if let Err(error) = container.start() {
            let failure = Failure::from(error);
            return Err(match container.delete(true) {
                Ok(()) => failure,
                Err(second) => {
                    tracing::warn!("{second}");
                    failure
                }
            });
        }
        if self.detach {
            return Ok(0);
        }
        let code = relay::attend(Attended { running, console }, signals)?;
        if !self.keep {
            container.delete(true)?;
        }
        Ok(code)
    }
}
