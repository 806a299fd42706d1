//! Stages: processes of this same binary that an operation starts, because what clones a container must be a fresh
//! process with one thread, and because containers outlive the command that started them.
//!
//! A stage's standard input is one half of an attach pair, over which it reports (started, output, exit code or
//! failure); its standard output is a pipe that its [`Environment`] and its [`Task`] come from. That way both are handed
//! over without a descriptor number on a command line, and a stage can be started before its task is known.

use std::fs::File;
use std::io::{BufReader, PipeWriter, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use carrack_container::ContainerId;
use carrack_container::attach::{self, Client, Event, Peer};
use carrack_sys::IoContext;
use serde::de::DeserializeOwned;
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

/// A stage that waits for its task. It ends by itself when it is dropped without one.
pub(crate) struct Stage {
    process: Child,
    client: Client,
    handover: PipeWriter,
    /// Closed when there is time: the end of a mount is waited for, until no processor looks at it any more.
    _program: OwnedFd,
}

impl Stage {
    /// Starts the process; `title` is shown in the list of processes. It inherits `descriptors`, for the program that it
    /// starts.
    pub(crate) fn load(
        environment: &Environment,
        title: &str,
        descriptors: &[u32],
        stderr: Stdio,
    ) -> Result<Self> {
        let (client, peer) = attach::pair()?;
        let (task, mut handover) = std::io::pipe().during("create", "a pipe")?;
        let program = carrack_runtime::executable::read_only()?;
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        command.arg0(STAGE_PROGRAM).arg(title).env_clear().current_dir("/");
        command.stdin(peer).stdout(task).stderr(stderr);
        // No other program gets them, and the stage gets them under their numbers.
        carrack_runtime::check_descriptors(descriptors, false)?;
        let spawned = command.spawn().during("start", format!("the stage {title}"));
        carrack_runtime::check_descriptors(descriptors, true)?;
        let process = spawned?;
        hand_over(&mut handover, &(environment, descriptors))?;
        Ok(Self { process, client, handover, _program: program })
    }

    /// Loads the monitor of a container.
    pub(crate) fn load_monitor(
        environment: &Environment,
        id: &ContainerId,
        descriptors: &[u32],
    ) -> Result<Self> {
        // A monitor that kept the caller's standard error would keep `$(carrack run -d ... 2>&1)` waiting.
        Self::load(environment, &format!("monitor {}", id.short()), descriptors, Stdio::null())
    }

    /// Tells the stage what to do.
    pub(crate) fn assign(mut self, task: &Task) -> Result<(Client, Child)> {
        hand_over(&mut self.handover, task)?;
        Ok((self.client, self.process))
    }
}

fn hand_over(pipe: &mut PipeWriter, part: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(part).expect("a task has string keys only");
    Ok(pipe.write_all(&bytes).during("write", "the task of a stage")?)
}

impl Engine {
    /// Starts a stage; `title` is shown in the list of processes.
    pub(crate) fn start_stage(&self, task: &Task, title: &str, descriptors: &[u32]) -> Result<Client> {
        // One that may outlive the command must not keep what reads the command's standard error waiting.
        let stderr = if matches!(task, Task::Exec(_)) { Stdio::null() } else { Stdio::inherit() };
        Ok(Stage::load(&self.environment, title, descriptors, stderr)?.assign(task)?.0)
    }

    /// Lets a monitor act on its container, by `task`; it gets the streams of this process where the container is to have them.
    pub(crate) fn assign_monitor(&self, stage: Stage, task: &Task, passes_streams: bool) -> Result<Client> {
        if passes_streams {
            let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
            stage.client.pass_streams(streams)?;
        }
        Ok(stage.assign(task)?.0)
    }
}

/// Starts a stage that nobody listens to; its exit code tells.
pub(crate) fn spawn_background(environment: &Environment, task: &Task, title: &str) -> Result<Child> {
    Ok(Stage::load(environment, title, &[], Stdio::null())?.assign(task)?.1)
}

/// Runs the stage that this process is. The report over the socket tells what came of it, and of a health check the
/// exit code too.
pub fn run_stage() -> u8 {
    // Out of the caller's session: its terminal must not signal, stop or hang up a container.
    let _ = rustix::process::setsid();
    run_task().unwrap_or(1)
}

fn run_task() -> Result<u8> {
    let (peer, handover) = receive()?;
    let mut parts = serde_json::Deserializer::from_reader(BufReader::new(handover));
    let (environment, descriptors): (Environment, Vec<u32>) = part(&mut parts)?;
    carrack_runtime::check_descriptors(&descriptors, true)?;
    // The command goes on meanwhile: it may be creating the container.
    let engine = Engine::open(environment)?;
    match part(&mut parts)? {
        Task::Monitor(id) => {
            drop(parts);
            forget_handover()?;
            engine.supervise(&id, peer, descriptors).map(|()| 0)
        }
        Task::Hold(id) => {
            drop(parts);
            forget_handover()?;
            engine.hold(&id, peer).map(|()| 0)
        }
        Task::Exec(task) => engine.exec_stage(*task, descriptors, peer).map(|()| 0),
        Task::Step(task) => engine.step_stage(*task, peer).map(|()| 0),
        Task::Health(id) => engine.health_stage(&id, &peer),
    }
}

type Parts = serde_json::Deserializer<serde_json::de::IoRead<BufReader<File>>>;

fn part<T: DeserializeOwned>(parts: &mut Parts) -> Result<T> {
    T::deserialize(parts).map_err(|error| Error::Stage(error.to_string()))
}

/// A monitor stays for long: it keeps neither the memory of its task nor the connection beyond its use.
fn forget_handover() -> Result<()> {
    let null = rustix::stdio::stderr();
    rustix::stdio::dup2_stdin(null).during("close", "the standard input")?;
    Ok(rustix::stdio::dup2_stdout(null).during("close", "the standard output")?)
}

fn receive() -> Result<(Peer, File)> {
    let own = |fd: std::os::fd::BorrowedFd<'_>| -> Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3).during("duplicate", "a standard stream")?)
    };
    let peer = Peer::from_inherited(own(rustix::stdio::stdin())?)?;
    Ok((peer, File::from(own(rustix::stdio::stdout())?)))
}

/// Tells the caller that the stage failed, with all causes in one text.
pub(crate) fn report_failure(peer: &Peer, error: &Error) {
    let code = i32::from(error.exit_code_of_run());
    let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    let message = error.with_causes() + &hint;
    peer.send(&Event::Failed { code, message: &message }, REPORT_LIMIT);
}
