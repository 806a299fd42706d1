//! Ending containers: kill, stop.
//!
//! Who asks for the end writes so into the state before anything else, so that a restart policy does not undo it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use carrack_container::{Container, ContainerId, ContainerState, ProcessId, Program, Status, StopRequest};
use carrack_sys::IoContext;
use carrack_sys::process::{send_signal, send_signal_to_group};

use crate::error::OperationContext;
use crate::other_runtime::Calls;
use crate::{Engine, Error, Result, signal};

/// Docker's default for `stop`.
const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a monitor may take to see the end of its program.
const MONITOR_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a start that is under way may take.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How a user wants a container to be stopped; `None` is the container's own way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopWish {
    /// The signal, as a name or number.
    pub signal: Option<String>,
    /// How long it is waited for before it is killed.
    pub patience: Option<Patience>,
}

/// How long something is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// So long.
    Limited(Duration),
    /// For ever.
    Unlimited,
}

impl Engine {
    /// The container that a user names.
    pub fn find_container(&self, text: &str) -> Result<Container> {
        Ok(self.containers.find(text)?)
    }

    /// Every container, newest first.
    pub fn list_containers(&self) -> Result<Vec<Container>> {
        self.recover()
    }

    /// Sends `signal` to the container's first process.
    pub fn kill(&self, text: &str, signal: &str) -> Result<()> {
        let number = signal::parse(signal).operation("kill", text)?;
        let container = self.containers.find(text)?;
        self.kill_found(&container, number).operation("kill", text)
    }

    pub(crate) fn kill_found(&self, container: &Container, number: i32) -> Result<()> {
        let stop = container.record.program.stop_signal.as_deref().unwrap_or("TERM");
        if number == signal::KILL || signal::parse(stop).is_ok_and(|stop| stop == number) {
            self.request_stop(container, StopRequest::User)?;
        }
        match container.state.status {
            // There is nothing to kill; it will not come back.
            Status::Restarting => drop(self.wait_until_ended(&container.record.id, Some(MONITOR_TIMEOUT))?),
            _ => self.signal(container, number)?,
        }
        self.tell_signal(container, number);
        Ok(())
    }

    fn tell_signal(&self, container: &Container, number: i32) {
        self.container_event(&container.record, "kill", &[("signal", number.to_string())]);
    }

    /// Writes down that a running container is to end, and not to be started again by its policy.
    fn request_stop(&self, container: &Container, request: StopRequest) -> Result<()> {
        if container.state.status.is_active() {
            self.containers.update(&container.record.id, |state| {
                state.stop_requested = state.status.is_active().then_some(request).or(state.stop_requested);
                Ok(())
            })?;
        }
        Ok(())
    }

    pub(crate) fn signal(&self, container: &Container, signal: i32) -> Result<()> {
        self.thaw_abandoned(container)?;
        let init = container.state.init.as_ref().filter(|_| container.state.status.has_process());
        // A pidfd cannot hit another process that got the same number.
        let pidfd = init.map(|init| init.open()).transpose()?.flatten();
        match pidfd {
            Some(pidfd) => {
                self.send(container, pidfd.as_fd(), signal)?;
                self.unpause_to_end(container, signal)
            }
            None => Err(Error::refused(format!("container {} is not running", container.record.name), "")),
        }
    }

    /// Another runtime may have put something between its process and the program, so it passes signals on. What kills
    /// the one kills the other.
    fn send(&self, container: &Container, init: BorrowedFd<'_>, signal: i32) -> Result<()> {
        let record = &container.record;
        match &record.host.runtime {
            Some(runtime) if signal != signal::KILL => {
                Calls::new(runtime, record.id.as_str(), &self.containers.run_folder(&record.id)).kill(signal)
            }
            _ => {
                let what = || format!("container {}", record.name);
                Ok(send_signal(init, signal).during("send a signal to", what())?)
            }
        }
    }

    /// As in Docker, a paused container goes on when it is told to end: it could not do so otherwise.
    fn unpause_to_end(&self, container: &Container, signal: i32) -> Result<()> {
        let stop = signal::parse(container.record.program.stop_signal.as_deref().unwrap_or("TERM"));
        match container.state.status {
            Status::Paused if signal == signal::KILL || stop.is_ok_and(|stop| stop == signal) => {
                self.unpause_container(container)
            }
            _ => Ok(()),
        }
    }

    /// Asks the container to end, and kills it after its timeout; one that does not run is stopped already.
    pub fn stop(&self, text: &str, wish: &StopWish) -> Result<()> {
        let container = self.containers.find(text)?;
        self.stop_requested(&container, wish, StopRequest::User).operation("stop", text)
    }

    /// Stops a container for whoever has requested it.
    pub(crate) fn stop_requested(
        &self,
        container: &Container,
        wish: &StopWish,
        request: StopRequest,
    ) -> Result<()> {
        if !container.state.status.is_active() {
            return Ok(());
        }
        self.request_stop(container, request)?;
        let id = &container.record.id;
        // One that is just being started can be asked once it runs.
        let Some(container) = &self.await_start(container)? else { return Ok(()) };
        let ended = match container.state.status {
            Status::Creating => self.end_start(container),
            Status::Restarting => self.wait_until_ended(id, Some(MONITOR_TIMEOUT)).map(drop),
            // There is no program that could do something about a signal.
            Status::Initialized => self.kill_container(container),
            _ => self.end_running(container, wish),
        };
        match ended {
            // It was removed at its end.
            Err(error) if error.is_no_such_container() => {}
            ended => ended?,
        }
        // The monitor tells of the end while it has the lock; one that is gone has told.
        match self.containers.lock(id) {
            Err(carrack_container::Error::NotFound { .. }) => {}
            locked => drop(locked?),
        }
        self.container_event(&container.record, "stop", &[]);
        Ok(())
    }

    fn end_running(&self, container: &Container, wish: &StopWish) -> Result<()> {
        let program = &container.record.program;
        let (limit, signal) = (stop_limit(program, wish), stop_signal(program, wish)?);
        // Told first: the monitor tells of the end as soon as there is one.
        self.tell_signal(container, signal);
        match self.signal(container, signal) {
            // It has ended by itself.
            Err(_) if self.wait_until_ended(&container.record.id, Some(Duration::ZERO))? => return Ok(()),
            result => result?,
        }
        if self.wait_until_ended(&container.record.id, limit)? {
            return Ok(());
        }
        self.tell_signal(container, signal::KILL);
        self.kill_container(container)
    }

    /// Asks the program to end, and kills it after its timeout; its monitor then starts it again.
    pub(crate) fn end_for_restart(&self, container: &Container, wish: &StopWish) -> Result<()> {
        let (id, program) = (&container.record.id, &container.record.program);
        self.containers.update(id, |state| {
            state.restart_requested = state.status.is_running();
            Ok(())
        })?;
        let signal = stop_signal(program, wish)?;
        self.tell_signal(container, signal);
        self.signal(container, signal)?;
        let has_ended = |state: &ContainerState| state.init != container.state.init;
        let state = self.containers.wait(id, stop_limit(program, wish), has_ended)?;
        if has_ended(&state) { Ok(()) } else { self.signal(container, signal::KILL) }
    }

    /// Kills and waits until the container's monitor has seen it.
    pub(crate) fn kill_container(&self, container: &Container) -> Result<()> {
        self.request_stop(container, StopRequest::User)?;
        let Some(container) = &self.await_start(container)? else { return Ok(()) };
        if container.state.status == Status::Creating {
            return self.end_start(container);
        }
        match self.signal(container, signal::KILL) {
            // It has ended between the two signals, or ends without one.
            Err(_) if self.wait_until_ended(&container.record.id, Some(MONITOR_TIMEOUT))? => return Ok(()),
            result => result?,
        }
        match self.wait_until_ended(&container.record.id, Some(MONITOR_TIMEOUT))? {
            true => Ok(()),
            false => Err(Error::refused(
                "it does not end although it was killed",
                "a process may hang in the kernel",
            )),
        }
    }

    /// Waits until a start that is under way has come to something, but not for ever: it may hang. `None` when the
    /// container is gone.
    fn await_start(&self, container: &Container) -> Result<Option<Container>> {
        let is_decided = |state: &ContainerState| state.status != Status::Creating;
        match self.containers.wait(&container.record.id, Some(START_TIMEOUT), is_decided) {
            Ok(state) => Ok(Some(Container { state, ..container.clone() })),
            Err(carrack_container::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends a start that hangs in a hook or in another runtime: kills its monitor with what that waits for, and undoes
    /// what was made.
    fn end_start(&self, container: &Container) -> Result<()> {
        let Container { record, state } = container;
        let monitor = state.monitor.as_ref().map(ProcessId::open).transpose()?.flatten();
        if let Some(monitor) = monitor {
            // It may end by itself between the two calls.
            let _ = send_signal_to_group(monitor.as_fd(), signal::KILL);
        }
        self.wait_until_ended(&record.id, Some(MONITOR_TIMEOUT))?;
        match self.recover_container(&record.id) {
            Err(error) if error.is_no_such_container() => Ok(()),
            result => result,
        }
    }

    /// Waits until the container does not run, at most for `limit`; tells whether it does not.
    fn wait_until_ended(&self, id: &ContainerId, limit: Option<Duration>) -> Result<bool> {
        match self.containers.wait(id, limit, |state| !state.status.is_active()) {
            Ok(state) => Ok(!state.status.is_active()),
            Err(carrack_container::Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

/// What asks a program to end.
fn stop_signal(program: &Program, wish: &StopWish) -> Result<i32> {
    let signal = wish.signal.as_deref().or(program.stop_signal.as_deref());
    signal::parse(signal.unwrap_or("TERM"))
}

/// How long it may take to; `None` is for ever.
fn stop_limit(program: &Program, wish: &StopWish) -> Option<Duration> {
    let own = program.stop_timeout_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    match wish.patience.unwrap_or(Patience::Limited(own.unwrap_or(DEFAULT_STOP_TIMEOUT))) {
        Patience::Limited(limit) => Some(limit),
        Patience::Unlimited => None,
    }
}
