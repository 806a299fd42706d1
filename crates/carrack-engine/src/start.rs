//! Start: a monitor for the container, and the caller's session with it.

use carrack_container::attach::{Client, Ended, Request, Signals, Streams};
use carrack_container::{
    Container, ContainerId, ContainerRecord, ContainerState, LogDriver, RestartPolicy, Status, StopRequest,
};

use crate::error::OperationContext;
use crate::stage::{Stage, Task};
use crate::stop::StopWish;
use crate::{ContainerRequest, Engine, Error, Result};

/// A caller's connection with a program in a container.
pub struct Session<'a> {
    engine: &'a Engine,
    client: Client,
    /// The container, where signals of the caller go.
    container: ContainerId,
    /// Of a program beside the container's own.
    exec_id: Option<ContainerId>,
    passes_streams: bool,
}

impl<'a> Session<'a> {
    pub(crate) fn new(engine: &'a Engine, client: Client, container: ContainerId) -> Self {
        Self { engine, client, container, exec_id: None, passes_streams: false }
    }

    pub(crate) fn of_exec(
        engine: &'a Engine,
        client: Client,
        container: ContainerId,
        exec_id: ContainerId,
    ) -> Self {
        Self { exec_id: Some(exec_id), ..Self::new(engine, client, container) }
    }

    /// Whether the program has the caller's own streams, so that there is nothing to relay.
    pub fn passes_streams(&self) -> bool {
        self.passes_streams
    }

    /// The connection, for relaying standard streams.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whose session it is, for messages.
    pub fn title(&self) -> String {
        format!("container {}", self.container.short())
    }

    /// Passes a signal of the caller's on to the container's first process.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let container = self.engine.containers.get(&self.container)?;
        self.engine.signal(&container, signal)
    }

    /// Gives the terminal of the program the size of the caller's.
    pub fn resize(&self, rows: u16, columns: u16) {
        self.client.send(&Request::Resize { rows, columns });
        self.tell_resize(rows, columns);
    }

    /// Tells that the program's terminal has another size; Docker does so of the container's own program only.
    pub fn tell_resize(&self, rows: u16, columns: u16) {
        if self.exec_id.is_none() {
            self.tell("resize", &[("height", rows.to_string()), ("width", columns.to_string())]);
        }
    }

    /// Tells that the caller has left by the detach keys.
    pub fn tell_detach(&self) {
        match &self.exec_id {
            None => self.tell("detach", &[]),
            Some(id) => self.tell("exec_detach", &[("execID", id.to_string())]),
        }
    }

    fn tell(&self, action: &str, details: &[(&str, String)]) {
        if let Ok(container) = self.engine.containers.get(&self.container) {
            self.engine.container_event(&container.record, action, details);
        }
    }
}

impl Engine {
    /// Starts a container, which then runs on its own; the session is that of its first client.
    pub fn start(&self, id: &ContainerId) -> Result<Session<'_>> {
        self.recover()?;
        self.start_monitor(id, None).operation("start container", id.short())
    }

    /// Creates a container that is to be started at once: its monitor is loaded meanwhile. The program gets `descriptors`
    /// of this process under their numbers.
    pub fn create_to_start(&self, request: ContainerRequest, descriptors: &[u32]) -> Result<Starting<'_>> {
        let id = ContainerId::random()?;
        refuse_descriptors(descriptors, request.host.lifecycle.restart)?;
        let stage = Stage::load_monitor(&self.environment, &id, descriptors)?;
        Ok(Starting { engine: self, record: self.create_as(id, request)?, stage })
    }

    /// [`start`](Self::start) for a caller who stays with the container, and attends to `signals` until it runs.
    pub fn start_attached(&self, id: &ContainerId, signals: Signals<'_>) -> Result<Session<'_>> {
        let record = self.containers.get(id)?.record;
        self.container_event(&record, "attach", &[]);
        self.recover()?;
        self.start_monitor(id, Some(signals)).operation("start container", id.short())
    }

    /// Joins the session of a running container, with its input when `interactive`.
    pub fn attach(&self, text: &str, interactive: bool) -> Result<Session<'_>> {
        let container = self.containers.find(text)?;
        if container.state.status == Status::Paused {
            let hint = format!("unpause it first: carrack unpause {text}");
            return Err(Error::refused("it is paused", hint)).operation("attach to", text);
        }
        let Container { record, state } = container;
        let id = record.id.clone();
        let streams = Streams { stdin: interactive, ..Streams::ALL };
        let client = match state.status {
            Status::Running => {
                Client::connect(&self.containers.run_folder(&id), streams).operation("attach to", text)?
            }
            _ => None,
        };
        let hint = format!("start it first: carrack start --attach {text}");
        let client =
            client.ok_or_else(|| Error::refused("it is not running", hint)).operation("attach to", text)?;
        self.container_event(&record, "attach", &[]);
        Ok(Session::new(self, client, id))
    }

    /// Stops the container if it runs, and starts it. One that is removed when it ends is started again by its monitor.
    pub fn restart(&self, text: &str, wish: &StopWish) -> Result<()> {
        let container = self.containers.find(text)?;
        if container.record.host.auto_remove && container.state.status.is_running() {
            self.end_for_restart(&container, wish).operation("restart", text)?;
            self.await_next_start(&container).operation("restart", text)?;
            self.container_event(&container.record, "restart", &[]);
            return Ok(());
        }
        self.stop_requested(&container, wish, StopRequest::User).operation("restart", text)?;
        self.start(&container.record.id)?;
        self.container_event(&container.record, "restart", &[]);
        Ok(())
    }

    /// Waits until another program than that of `container` runs in its place.
    fn await_next_start(&self, container: &Container) -> Result<()> {
        let is_next = |state: &ContainerState| {
            let is_other = state.init.is_some() && state.init != container.state.init;
            (is_other && state.status.is_running())
                || matches!(state.status, Status::Exited | Status::Removing)
        };
        let state = self.containers.wait(&container.record.id, None, is_next)?;
        match state.status.is_running() {
            true => Ok(()),
            false => Err(Error::refused("it ended and was not started again", "carrack logs may say why")),
        }
    }

    fn start_monitor(&self, id: &ContainerId, signals: Option<Signals<'_>>) -> Result<Session<'_>> {
        let Container { record, state } = self.containers.get(id)?;
        if state.status == Status::Paused {
            return Err(Error::refused("it is paused", format!("try: carrack unpause {}", id.short())));
        }
        let session = match state.status {
            Status::Initialized => {
                let client = Client::connect_to_start(&self.containers.run_folder(id))?;
                let client = client.ok_or_else(|| Error::refused("it has just ended", "try again"))?;
                Session::new(self, client, id.clone())
            }
            _ => self.assign_to(Stage::load_monitor(&self.environment, id, &[])?, &record)?,
        };
        wait_started(&session.client, signals)?;
        Ok(session)
    }

    /// The session of a container whose monitor has just been told to start it.
    fn assign_to(&self, stage: Stage, record: &ContainerRecord) -> Result<Session<'_>> {
        let passes_streams = record.host.lifecycle.log.driver == LogDriver::Passthrough;
        let client = self.assign_monitor(stage, &Task::Monitor(record.id.clone()), passes_streams)?;
        Ok(Session { passes_streams, ..Session::new(self, client, record.id.clone()) })
    }
}

fn refuse_descriptors(descriptors: &[u32], restart: RestartPolicy) -> Result<()> {
    if descriptors.is_empty() || restart == RestartPolicy::No {
        return Ok(());
    }
    let hint = "leave out --restart, or the descriptors";
    Err(Error::refused("the descriptors would be gone when it is started again", hint))
}

/// A container that was just created, with a monitor that waits for the word.
pub struct Starting<'a> {
    engine: &'a Engine,
    record: ContainerRecord,
    stage: Stage,
}

impl<'a> Starting<'a> {
    /// The container.
    pub fn record(&self) -> &ContainerRecord {
        &self.record
    }

    /// Starts it. One that is to be removed when it ends is removed too when it cannot be started.
    pub fn start(self) -> Result<Session<'a>> {
        self.start_attending(None)
    }

    /// [`start`](Self::start) for a caller who stays with the container, and attends to `signals` until it runs.
    pub fn start_attached(self, signals: Signals<'_>) -> Result<Session<'a>> {
        self.engine.container_event(&self.record, "attach", &[]);
        self.start_attending(Some(signals))
    }

    fn start_attending(self, signals: Option<Signals<'_>>) -> Result<Session<'a>> {
        let Self { engine, record, stage } = self;
        let start = || -> Result<Session<'a>> {
            let session = engine.assign_to(stage, &record)?;
            // What others have left is undone while the monitor is at work.
            engine.recover()?;
            wait_started(&session.client, signals)?;
            Ok(session)
        };
        start().operation("start container", record.id.short())
    }
}

/// Waits for a stage's report of the start.
pub(crate) fn wait_started(client: &Client, signals: Option<Signals<'_>>) -> Result<()> {
    match client.wait_started(signals)? {
        None => Ok(()),
        Some(Ended::Failed { code, message }) => {
            Err(Error::Program { message, exit_code: code.try_into().unwrap_or(125) })
        }
        Some(_) => Err(Error::Stage("the stage ended without a report".to_owned())),
    }
}
