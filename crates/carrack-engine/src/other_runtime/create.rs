//! `create` and `start` of a container by another runtime.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use carrack_runtime::cgroup::Cgroup;
use carrack_runtime::{ConsoleSocket, Running, Stdio};
use carrack_sys::IoContext;
use carrack_sys::process::{Cloned, clone_process, wait_pidfd};
use oci_spec::runtime::Spec;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{getpid, set_child_subreaper};

use super::Calls;
use super::bundle::Bundle;
use crate::{Error, Result};

/// What a runtime's complaint before its program runs may take.
const MAX_COMPLAINT_BYTES: u64 = 4096;

/// A call that makes a process and leaves it to the caller.
pub(super) struct Making<'a> {
    /// The command.
    pub verb: &'static str,
    /// Its working directory.
    pub folder: &'a Path,
    /// Standard streams of the process.
    pub stdio: Stdio,
}

/// A container that its runtime has created.
pub(crate) struct Created {
    calls: Calls,
    running: Running,
}

impl Calls {
    /// Creates the container of `spec`, in which sources of mounts become paths. The caller is a process of one thread and
    /// becomes the parent of the container's first process.
    pub fn create(
        &self,
        spec: &mut Spec,
        rootfs: OwnedFd,
        stdio: Stdio,
        cgroup: Option<&Cgroup>,
    ) -> Result<Created> {
        let bundle = Bundle::write(&self.folder, spec, rootfs)?;
        let mut command = self.command("create", &self.folder);
        command.arg("--bundle").arg(&self.folder);
        let making = Making { verb: "create", folder: &self.folder, stdio };
        let running = self.spawn(command, making, |mut command| {
            command.arg(&self.id);
            run_in(&bundle, command)
        })?;
        join(cgroup, &running)?;
        Ok(Created { calls: self.clone(), running })
    }

    /// Makes a process by a `command`, of which `run` tells whether it was successful.
    pub(super) fn spawn(
        &self,
        mut command: Command,
        making: Making<'_>,
        run: impl FnOnce(Command) -> Result<bool>,
    ) -> Result<Running> {
        let Making { verb, folder, stdio } = making;
        let pid_file = folder.join("pid");
        command.arg("--pid-file").arg(&pid_file);
        let socket = match stdio {
            Stdio::Console => {
                command.args(["--console-socket", ConsoleSocket::NAME]);
                Some(ConsoleSocket::bind(folder)?)
            }
            Stdio::Streams { stdin, stdout, stderr } => {
                command.stdin(stdin).stdout(stdout).stderr(stderr);
                None
            }
        };
        set_child_subreaper(Some(getpid())).during("become", "a subreaper")?;
        let ran = run(command);
        set_child_subreaper(None).during("cease to be", "a subreaper")?;
        self.outcome(verb, folder, ran?)?;
        let console = socket.map(|socket| socket.take()).transpose()?;
        Ok(Running::adopt(self.read_pid(&pid_file)?, console)?)
    }

    fn read_pid(&self, file: &Path) -> Result<i32> {
        let text = fs::read_to_string(file).during("read", file)?;
        let name = &self.runtime.name;
        text.trim().parse().map_err(|_| {
            Error::Stage(format!("expected a process id of the OCI runtime {name}, got {text:?}"))
        })
    }
}

/// Runs a command where `bundle` has its mounts; tells whether it was successful.
fn run_in(bundle: &Bundle, mut command: Command) -> Result<bool> {
    // Closed without a word when the command's program runs.
    let (complaint, complain) = pipe_with(PipeFlags::CLOEXEC).during("create", "a pipe")?;
    match clone_process(0, None).during("clone", "a process for the runtime")? {
        Cloned::Child => {
            let error = match bundle.enter() {
                Ok(()) => command.exec().to_string(),
                Err(error) => error.with_causes(),
            };
            let _ = File::from(complain).write_all(error.as_bytes());
            std::process::exit(125)
        }
        Cloned::Parent { pidfd, .. } => {
            drop(complain);
            let mut text = String::new();
            let reader = File::from(complaint).take(MAX_COMPLAINT_BYTES).read_to_string(&mut text);
            let status = wait_pidfd(pidfd.as_fd()).during("wait for", "the runtime")?;
            reader.during("read", "a pipe")?;
            match text.is_empty() {
                true => Ok(status.exit_status() == Some(0)),
                false => Err(Error::Stage(format!(
                    "cannot run the OCI runtime {}: {text}",
                    Path::new(command.get_program()).display()
                ))),
            }
        }
    }
}

/// Puts a process where carrack looks for a container's processes: a runtime passes over hierarchies without limits.
pub(super) fn join(cgroup: Option<&Cgroup>, running: &Running) -> Result<()> {
    let Some(cgroup) = cgroup else { return Ok(()) };
    match cgroup.add(running.pid()) {
        // It has ended already.
        Err(_) if has_ended(running) => Ok(()),
        result => Ok(result?),
    }
}

fn has_ended(running: &Running) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let pidfd = running.pidfd();
    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&at_once)).is_ok_and(|count| count > 0)
}

impl Created {
    /// The container's network namespace.
    pub fn network_namespace(&self) -> Result<OwnedFd> {
        let path = format!("/proc/{}/ns/net", self.running.pid());
        Ok(File::open(&path).during("open the namespace", &path)?.into())
    }

    /// Lets the program begin.
    pub fn start(self) -> Result<Running> {
        self.calls.start()?;
        Ok(self.running)
    }
}
