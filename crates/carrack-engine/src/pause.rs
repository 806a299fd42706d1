//! Pause and unpause: a container stands still until a user lets it go on.
//!
//! The marker of `freeze.rs` is there while state and kernel may differ: whoever finds it with the lock free lets the
//! container go on, and its state says that it runs. So a command that is killed leaves a container that runs.

use carrack_container::{Container, ContainerId, Status};
use carrack_sys::atomic;
use carrack_sys::lock::Lock;

use crate::error::OperationContext;
use crate::{Engine, Error, Result, limits};

impl Engine {
    /// Stops all processes of a running container for as long as it is not unpaused.
    pub fn pause(&self, text: &str) -> Result<()> {
        let container = self.containers.find(text)?;
        self.pause_container(&container).operation("pause container", text)?;
        self.container_event(&container.record, "pause", &[]);
        Ok(())
    }

    /// Lets a paused container go on.
    pub fn unpause(&self, text: &str) -> Result<()> {
        let container = self.containers.find(text)?;
        if container.state.status != Status::Paused {
            return Err(Error::refused("it is not paused", "")).operation("unpause container", text);
        }
        self.unpause_container(&container).operation("unpause container", text)?;
        self.container_event(&container.record, "unpause", &[]);
        Ok(())
    }

    fn pause_container(&self, container: &Container) -> Result<()> {
        let id = &container.record.id;
        self.thaw_abandoned(container)?;
        let _lock = Lock::exclusive(&self.freeze_lock(id))?;
        match self.containers.get(id)?.state.status {
            Status::Running => {}
            Status::Paused => return Err(Error::refused("it is paused already", "")),
            _ => {
                let hint = format!("start it first: carrack start {}", container.record.name);
                return Err(Error::refused("it is not running", hint));
            }
        }
        let cgroup = limits::require_cgroup(id.as_str(), &container.record.host.resources)?;
        let marker = self.mark_frozen(id)?;
        let paused = cgroup
            .freeze()
            .map_err(Error::from)
            .and_then(|()| Ok(self.containers.update(id, |state| state.pause()).map(drop)?));
        if paused.is_err() {
            cgroup.thaw()?;
        }
        atomic::remove_file(&marker)?;
        paused
    }

    /// Lets it go on; one that is not paused (any more) does already.
    pub(crate) fn unpause_container(&self, container: &Container) -> Result<()> {
        let id = &container.record.id;
        let _lock = Lock::exclusive(&self.freeze_lock(id))?;
        if self.containers.get(id)?.state.status != Status::Paused {
            return Ok(());
        }
        let cgroup = limits::require_cgroup(id.as_str(), &container.record.host.resources)?;
        let marker = self.mark_frozen(id)?;
        // One that was killed may have ended meanwhile.
        self.containers.update(id, |state| match state.status {
            Status::Paused => state.unpause(),
            _ => Ok(()),
        })?;
        match cgroup.thaw() {
            // One that was killed may have ended meanwhile, and its cgroup with it.
            Err(_) if self.has_ended(id)? => {}
            result => result?,
        }
        Ok(atomic::remove_file(&marker)?)
    }

    /// Whether the container does not run any more, when all that its monitor does at the end is done.
    fn has_ended(&self, id: &ContainerId) -> Result<bool> {
        match self.containers.lock(id) {
            Err(carrack_container::Error::NotFound { .. }) => Ok(true),
            locked => Ok(!locked?.get()?.state.status.is_active()),
        }
    }
}
