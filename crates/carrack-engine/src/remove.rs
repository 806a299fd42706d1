//! Removing containers, and undoing what dead ones left in the kernel.

use std::path::Path;

use carrack_container::{Container, ContainerId, Effect, Status};
use carrack_network::Attachment;
use carrack_runtime::cgroup::Cgroup;
use carrack_snapshot::{SnapshotKey, Snapshotter};

use crate::error::OperationContext;
use crate::{Engine, Error, Result};

impl Engine {
    /// Removes a container; a running one only with `force`, which kills it.
    pub fn remove_container(&self, text: &str, force: bool) -> Result<()> {
        let container = self.containers.find(text)?;
        self.remove_found(&container, force).operation("remove container", text)
    }

    fn remove_found(&self, container: &Container, force: bool) -> Result<()> {
        if container.state.status.is_active() {
            if !force {
                let name = &container.record.name;
                let hint = format!("stop it first (carrack stop {name}), or remove it with --force");
                return Err(Error::refused("it is running", hint));
            }
            self.kill_container(container)?;
        }
        match self.delete_container(&container.record.id) {
            // A monitor removes a container that was run with --rm.
            Err(Error::Container(carrack_container::Error::NotFound { .. })) => Ok(()),
            result => result,
        }
    }

    /// Deletes everything of a container that does not run, the record last.
    pub(crate) fn delete_container(&self, id: &ContainerId) -> Result<()> {
        let locked = self.containers.lock(id)?;
        locked.update(|state| state.remove())?;
        let container = locked.get()?;
        for effect in container.state.effects.iter().rev() {
            self.undo(effect)?;
        }
        self.snapshots.discard(&SnapshotKey::new(&container.record.snapshot)?)?;
        Ok(locked.delete()?)
    }

    /// Undoes what containers left whose monitor is gone: killed, or crashed, or lost by a reboot.
    pub(crate) fn recover(&self) -> Result<()> {
        for container in self.containers.list()? {
            let is_lost = container.state.lost || container.state.status == Status::Created;
            if is_lost && !container.state.effects.is_empty() {
                self.recover_container(&container.record.id)?;
            }
        }
        Ok(())
    }

    fn recover_container(&self, id: &ContainerId) -> Result<()> {
        let locked = self.containers.lock(id)?;
        let container = locked.get()?;
        if container.state.status.is_active() {
            return Ok(());
        }
        for effect in container.state.effects.iter().rev() {
            self.undo(effect)?;
        }
        locked.update(|state| {
            state.effects.clear();
            Ok(())
        })?;
        match container.record.host.auto_remove {
            true => {
                drop(locked);
                self.delete_container(id)
            }
            false => Ok(()),
        }
    }

    /// Undoes one effect; what is gone already is undone.
    pub(crate) fn undo(&self, effect: &Effect) -> Result<()> {
        match effect {
            Effect::Cgroup { path } => {
                let cgroup = Cgroup::open(Path::new(path))?;
                cgroup.kill()?;
                Ok(cgroup.delete()?)
            }
            Effect::Network { attachment } => {
                match serde_json::from_value::<Attachment>(attachment.clone()) {
                    Ok(attachment) => Ok(carrack_network::detach(&self.network_state(), &attachment)?),
                    // Announced, but not yet made: the lease, if any, is found by the container's id.
                    Err(_) => match attachment.as_str() {
                        Some(container) => self.detach_by_id(container),
                        None => Ok(()),
                    },
                }
            }
            Effect::Snapshot { key } => Ok(self.snapshots.discard(&SnapshotKey::new(key)?)?),
        }
    }

    fn detach_by_id(&self, container: &str) -> Result<()> {
        match carrack_network::find(&self.network_state(), &self.bridge()?.name, container)? {
            Some(attachment) => Ok(carrack_network::detach(&self.network_state(), &attachment)?),
            None => Ok(()),
        }
    }
}
