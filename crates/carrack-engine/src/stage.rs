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
use std::process::{Command, Stdio};

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
    /// Run a command in a running container.
    Exec(Box<ExecTask>),
    /// Run one step of a build.
    Step(Box<StepTask>),
}

#[derive(Serialize, Deserialize)]
struct Handover {
    environment: Environment,
    task: Task,
}

impl Engine {
    /// Starts a stage; `title` is shown in the list of processes.
    pub(crate) fn start_stage(&self, task: Task, title: &str) -> Result<Client> {
        let outlives_command = matches!(task, Task::Monitor(_));
        let (client, peer) = attach::pair()?;
        let handover = Handover { environment: self.environment.clone(), task };
        let program = carrack_runtime::executable::read_only()?;
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        command.arg0(STAGE_PROGRAM).arg(title).env_clear().current_dir("/");
        command.stdin(peer).stdout(memory_file(&handover)?);
        // A monitor that kept the caller's standard error would keep `$(carrack run -d ... 2>&1)` waiting.
        command.stderr(if outlives_command { Stdio::null() } else { Stdio::inherit() });
        command.spawn().during("start", format!("the stage {title}"))?;
        Ok(client)
    }
}

fn memory_file(handover: &Handover) -> Result<File> {
    let name = "task";
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).during("create", name)?);
    let bytes = serde_json::to_vec(handover).expect("a task has string keys only");
    file.write_all(&bytes).and_then(|()| file.rewind()).during("write", name)?;
    Ok(file)
}

/// Runs the stage that this process is. Its exit code tells nothing; the report over the socket does.
pub fn run_stage() -> u8 {
    let Ok((peer, handover)) = receive() else { return 1 };
    // Out of the caller's session: its terminal must not signal, stop or hang up a container.
    let _ = rustix::process::setsid();
    let done = Engine::open(handover.environment).and_then(|engine| match handover.task {
        Task::Monitor(id) => engine.supervise(&id, peer),
        Task::Exec(task) => engine.exec_stage(*task, peer),
        Task::Step(task) => engine.step_stage(*task, peer),
    });
    u8::from(done.is_err())
}

fn receive() -> Result<(Peer, Handover)> {
    let own = |fd: std::os::fd::BorrowedFd<'_>| -> Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3).during("duplicate", "a standard stream")?)
    };
    let peer = Peer::from_inherited(own(rustix::stdio::stdin())?)?;
    let mut bytes = Vec::new();
    File::from(own(rustix::stdio::stdout())?).read_to_end(&mut bytes).during("read", "the task")?;
    let handover = serde_json::from_slice(&bytes).map_err(|error| Error::Stage(error.to_string()))?;
    Ok((peer, handover))
}

/// Tells the caller that the stage failed, with all causes in one text.
pub(crate) fn report_failure(peer: &Peer, error: &Error) {
    let (code, message) = (i32::from(error.exit_code_of_run()), error.with_causes());
    peer.send(&Event::Failed { code, message: &message }, REPORT_LIMIT);
}
