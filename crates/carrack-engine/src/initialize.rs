//! Init: a container is set up, up to the moment before its program is executed, and waits there for its start.
//!
//! Its monitor is there from then on. It watches the first process, and listens on the attach socket for whoever starts
//! the container. What has never run and loses its monitor is `created` again.

use carrack_container::attach::{Event, Peer};
use carrack_container::{ContainerId, ContainerRecord, Exit, LogDriver, ProcessId};

use crate::error::OperationContext;
use crate::stage::{Stage, Task, report_failure};
use crate::start::wait_started;
use crate::supervise::{Prepared, REPORT_LIMIT};
use crate::{Engine, Error, Result, sandbox, signal};

impl Engine {
    /// Sets the container up that `text` names, so that its start only has to execute its program.
    pub fn initialize(&self, text: &str) -> Result<()> {
        self.recover()?;
        let container = self.containers.find(text)?;
        self.initialize_found(&container.record.id).operation("initialize container", text)
    }

    fn initialize_found(&self, id: &ContainerId) -> Result<()> {
        let container = self.containers.get(id)?;
        if container.state.status.is_active() {
            return Err(Error::refused(format!("it is {} already", container.state.status), ""));
        }
        if container.record.host.runtime.is_some() {
            return Err(sandbox::not_ours());
        }
        if container.record.host.lifecycle.log.driver == LogDriver::Passthrough {
            let hint = format!("start it: carrack start {}", container.record.name);
            return Err(Error::refused("it has the standard streams of whoever starts it", hint));
        }
        let stage = Stage::load_monitor(&self.environment, id, &[])?;
        wait_started(&self.assign_monitor(stage, &Task::Hold(id.clone()), false)?, None)
    }

    /// The monitor stage of a container that is initialized: stays from the set-up to the end.
    pub(crate) fn hold(&self, id: &ContainerId, peer: Peer) -> Result<()> {
        let record = self.begin(id, &peer)?;
        let prepared = self.prepare_held(record).inspect_err(|error| {
            let _ = self.fail(id, &error.with_causes(), i32::from(error.exit_code_of_run()));
            report_failure(&peer, error);
        })?;
        self.container_event(&prepared.record, "init", &[]);
        peer.send(&Event::Started, REPORT_LIMIT);
        drop(peer);
        match prepared.listener.await_start(prepared.sandbox.init()?.pidfd())? {
            Some(starter) => self.start_held(id, prepared, starter),
            None => self.end_held(prepared),
        }
    }

    fn prepare_held(&self, record: Box<ContainerRecord>) -> Result<Prepared> {
        let mut prepared = self.prepare_container(record, &None, Vec::new(), true)?;
        prepared.sandbox.wait_ready()?;
        let init = ProcessId::of(prepared.sandbox.init()?.pid())?;
        self.containers.update(&prepared.record.id, |state| state.initialize(init))?;
        Ok(prepared)
    }

    fn start_held(&self, id: &ContainerId, prepared: Prepared, starter: Peer) -> Result<()> {
        let started = self
            .containers
            .update(id, |state| state.proceed())
            .map_err(Error::from)
            .and_then(|_| self.run_prepared(prepared))
            .inspect_err(|error| {
                let _ = self.fail(id, &error.with_causes(), i32::from(error.exit_code_of_run()));
                report_failure(&starter, error);
            })?;
        self.stay_while_restarting(id, started, starter, &None)
    }

    /// Its first process was killed before it became the program.
    fn end_held(&self, prepared: Prepared) -> Result<()> {
        let Prepared { record, sandbox, holds, .. } = prepared;
        self.end(&record.id, Exit::Signal(signal::KILL), sandbox.cgroup())?;
        drop((sandbox, holds));
        Ok(())
    }
}
