//! Stages: processes of this same binary that an operation starts, because what clones a container must be a fresh
//! process with one thread, and because containers outlive the command that started them.
//!
//! A stage's standard input is one half of an attach pair, over which it reports (started, output, exit code or
//! failure); its standard output is a file in memory with its [`Task`]. That way both are handed over without a
//! descriptor number on a command line.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use carrack_container::ContainerId;
use carrack_container::attach::{self, Client, Event, Peer};
use carrack_sys::IoContext;
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

use crate::exec::ExecTask;
use crate::run_step::StepTask;
use crate::supervise::REPORT_LIMIT;
use crate::{Engine, Environment, Error, Result};

/// The first argument of every stage's process; people see it in `ps` with the kind and the object.
pub const STAGE_PROGRAM: &str = "carrack-stage";

/// What a stage is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Start a container, and stay with it.
    Monitor(ContainerId),
    /// Set a container up and stay with it; start it when somebody asks for that.
    Hold(ContainerId),
    /// Run a command in a running container.
    Exec(Box<ExecTask>),
    /// Run one step of a build.
    Step(Box<StepTask>),
    /// Check the health of a running container once.
    Health(ContainerId),
}

#[derive(Serialize, Deserialize)]
struct Handover {
    environment: Environment,
    task: Task,
    /// Descriptors that it has inherited for the program which it starts.
    descriptors: Vec<u32>,
}

impl Engine {
    /// Starts a stage; `title` is shown in the list of processes.
    pub(crate) fn start_stage(&self, task: Task, title: &str, descriptors: &[u32]) -> Result<Client> {
        let (client, peer) = attach::pair()?;
        let handover = self.handover(task, descriptors);
        spawn(&handover, title, peer, Stdio::inherit())?;
        Ok(client)
    }

    /// Starts the monitor of a container, which gets the streams of this process where the container is to have them.
    pub(crate) fn start_monitor_stage(
        &self,
        task: Task,
        id: &ContainerId,
        passes_streams: bool,
        descriptors: &[u32],
    ) -> Result<Client> {
        let (client, peer) = attach::pair()?;
        if passes_streams {
            let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
            client.pass_streams(streams)?;
        }
        let title = format!("monitor {}", id.short());
        // A monitor that kept the caller's standard error would keep `$(carrack run -d ... 2>&1)` waiting.
        spawn(&self.handover(task, descriptors), &title, peer, Stdio::null())?;
        Ok(client)
    }

    fn handover(&self, task: Task, descriptors: &[u32]) -> Handover {
        Handover { environment: self.environment.clone(), task, descriptors: descriptors.to_vec() }
    }
}

/// Starts a stage that nobody listens to; its exit code tells.
pub(crate) fn spawn_background(environment: &Environment, task: Task, title: &str) -> Result<Child> {
    let (_, peer) = attach::pair()?;
    let handover = Handover { environment: environment.clone(), task, descriptors: Vec::new() };
    spawn(&handover, title, peer, Stdio::null())
}

fn spawn(handover: &Handover, title: &str, peer: OwnedFd, stderr: Stdio) -> Result<Child> {
    let program = carrack_runtime::executable::read_only()?;
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.arg0(STAGE_PROGRAM).arg(title).env_clear().current_dir("/");
    command.stdin(peer).stdout(memory_file(handover)?).stderr(stderr);
    // No other program gets them, and the stage gets them under their numbers.
    carrack_runtime::check_descriptors(&handover.descriptors, false)?;
    let spawned = command.spawn().during("start", format!("the stage {title}"));
    carrack_runtime::check_descriptors(&handover.descriptors, true)?;
    Ok(spawned?)
}

fn memory_file(handover: &Handover) -> Result<File> {
    let name = "task";
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).during("create", name)?);
    let bytes = serde_json::to_vec(handover).expect("a task has string keys only");
    file.write_all(&bytes).and_then(|()| file.rewind()).during("write", name)?;
    Ok(file)
}

/// Runs the stage that this process is. The report over the socket tells what came of it, and of a health check the
/// exit code too.
pub fn run_stage() -> u8 {
    let Ok((peer, handover)) = receive() else { return 1 };
    // Out of the caller's session: its terminal must not signal, stop or hang up a container.
    let _ = rustix::process::setsid();
    let Handover { environment, task, descriptors } = handover;
    let done = Engine::open(environment).and_then(|engine| match task {
        Task::Monitor(id) => {
            forget_handover()?;
            engine.supervise(&id, peer, descriptors).map(|()| 0)
        }
        Task::Hold(id) => {
            forget_handover()?;
            engine.hold(&id, peer).map(|()| 0)
        }
        Task::Exec(task) => engine.exec_stage(*task, descriptors, peer).map(|()| 0),
        Task::Step(task) => engine.step_stage(*task, peer).map(|()| 0),
        Task::Health(id) => engine.health_stage(&id, &peer),
    });
    done.unwrap_or(1)
}

/// A monitor stays for long: it keeps neither the memory of its task nor the connection beyond its use.
fn forget_handover() -> Result<()> {
    let null = rustix::stdio::stderr();
    rustix::stdio::dup2_stdin(null).during("close", "the standard input")?;
    Ok(rustix::stdio::dup2_stdout(null).during("close", "the standard output")?)
}

fn receive() -> Result<(Peer, Handover)> {
    let own = |fd: std::os::fd::BorrowedFd<'_>| -> Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3).during("duplicate", "a standard stream")?)
    };
    let peer = Peer::from_inherited(own(rustix::stdio::stdin())?)?;
    let mut bytes = Vec::new();
    File::from(own(rustix::stdio::stdout())?).read_to_end(&mut bytes).during("read", "the task")?;
    let handover: Handover =
        serde_json::from_slice(&bytes).map_err(|error| Error::Stage(error.to_string()))?;
    carrack_runtime::check_descriptors(&handover.descriptors, true)?;
    Ok((peer, handover))
}

/// Tells the caller that the stage failed, with all causes in one text.
pub(crate) fn report_failure(peer: &Peer, error: &Error) {
    let code = i32::from(error.exit_code_of_run());
    let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    let message = error.with_causes() + &hint;
    peer.send(&Event::Failed { code, message: &message }, REPORT_LIMIT);
}
