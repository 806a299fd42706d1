//! Removing containers, and undoing what dead ones left in the kernel.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::Path;

use carrack_container::{Container, ContainerId, Effect, Status};
use carrack_network::Attachment;
use carrack_runtime::cgroup::Cgroup;
use carrack_snapshot::SnapshotKey;
use carrack_sys::IoContext;
use carrack_sys::process::send_signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::container_filter::ContainerFilters;
use crate::error::OperationContext;
use crate::other_runtime::Calls;
use crate::{Engine, Error, Result, limits, signal};

/// How long a killed process may take to end.
const END_LIMIT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

impl Engine {
    /// Removes a container; a running one only with `force`, which kills it.
    pub fn remove_container(&self, text: &str, force: bool) -> Result<()> {
        let container = self.containers.find(text)?;
        self.remove_found(&container, force).operation("remove container", text)
    }

    /// [`Engine::remove_container`], and the volumes that were made for it alone.
    pub fn remove_container_with_volumes(&self, text: &str, force: bool) -> Result<()> {
        let container = self.containers.find(text)?;
        self.remove_found(&container, force)
            .and_then(|()| self.remove_own_volumes(&container.record))
            .operation("remove container", text)
    }

    /// Removes every container that passes and is not in use; returns their IDs.
    pub fn prune_containers(&self, filters: &ContainerFilters) -> Result<Vec<ContainerId>> {
        let meant = self.filter_containers(filters, self.containers.list()?)?;
        let ids: BTreeSet<_> = meant.into_iter().map(|container| container.record.id).collect();
        self.prune_containers_that(&|container| ids.contains(&container.record.id))
    }

    /// Removes those containers that are not in use and meant.
    pub(crate) fn prune_containers_that(
        &self,
        is_meant: &dyn Fn(&Container) -> bool,
    ) -> Result<Vec<ContainerId>> {
        let mut removed = Vec::new();
        for container in self.recover()? {
            if container.state.status.is_active() || !is_meant(&container) {
                continue;
            }
            let id = container.record.id;
            match self.delete_container(&id) {
                // Somebody has started or removed it meanwhile.
                Err(Error::Container(
                    carrack_container::Error::NotFound { .. } | carrack_container::Error::Transition { .. },
                )) => {}
                result => removed.push(result.map(|()| id).operation("prune", "containers")?),
            }
        }
        Ok(removed)
    }

    fn remove_found(&self, container: &Container, force: bool) -> Result<()> {
        if container.state.status.is_active() {
            if !force {
                let name = &container.record.name;
                let hint = format!("stop it first (carrack stop {name}), or remove it with --force");
                return Err(Error::refused(format!("it is {}", container.state.status), hint));
            }
            self.kill_container(container)?;
        }
        match self.delete_container(&container.record.id) {
            // A monitor removes a container that was run with --rm.
            Err(Error::Container(carrack_container::Error::NotFound { .. })) => Ok(()),
            result => result,
        }
    }

    /// Deletes everything of a container that does not run. Its snapshot comes last: without a container it is garbage,
    /// while a container without a snapshot would be broken.
    pub(crate) fn delete_container(&self, id: &ContainerId) -> Result<()> {
        let locked = self.containers.lock(id)?;
        locked.update(|state| state.remove())?;
        let container = locked.get()?;
        end_survivor(&container)?;
        for effect in container.state.effects.iter().rev() {
            self.undo(effect)?;
        }
        locked.delete()?;
        self.container_event(&container.record, "destroy", &[]);
        self.discard_snapshot(&SnapshotKey::new(&container.record.snapshot)?)?;
        // After the container, which names them; what a crash leaves, a prune of volumes takes.
        match container.record.host.auto_remove {
            true => self.remove_own_volumes(&container.record),
            false => Ok(()),
        }
    }

    /// Undoes what containers left whose monitor is gone: killed, or crashed, or lost by a reboot. Returns all
    /// containers, newest first.
    pub(crate) fn recover(&self) -> Result<Vec<Container>> {
        let mut containers = self.containers.list()?;
        let mut changed = false;
        for container in &containers {
            self.thaw_abandoned(container)?;
            let is_lost = container.state.lost || container.state.status == Status::Created;
            if is_lost && !container.state.effects.is_empty() {
                changed = true;
                match self.recover_container(&container.record.id) {
                    // Another command has removed it meanwhile.
                    Err(error) if error.is_no_such_container() => {}
                    result => result?,
                }
            }
        }
        if changed {
            containers = self.containers.list()?;
        }
        Ok(containers)
    }

    fn recover_container(&self, id: &ContainerId) -> Result<()> {
        let locked = self.containers.lock(id)?;
        let container = locked.get()?;
        if container.state.status.is_active() {
            return Ok(());
        }
        end_survivor(&container)?;
        for effect in container.state.effects.iter().rev() {
            self.undo(effect)?;
        }
        let state = locked.update(|state| {
            state.effects.clear();
            Ok(())
        })?;
        if state.lost {
            self.end_events(&container.record, &state);
        }
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
            Effect::Runtime { runtime, id, state } => {
                Calls::new(runtime, id, state.parent().unwrap_or(state)).delete()
            }
            Effect::Snapshot { key } => self.discard_snapshot(&SnapshotKey::new(key)?),
        }
    }

    fn detach_by_id(&self, container: &str) -> Result<()> {
        match carrack_network::find(&self.network_state(), &self.bridge()?.name, container)? {
            Some(attachment) => Ok(carrack_network::detach(&self.network_state(), &attachment)?),
            None => Ok(()),
        }
    }
}

/// Kills the first process of a container that has outlived its monitor, and waits for its end: a host without
/// cgroups has nothing else to find it by. The kernel ends the other processes with it.
fn end_survivor(container: &Container) -> Result<()> {
    let init = container.state.init.as_ref().map(|init| init.open()).transpose()?.flatten();
    let Some(init) = init else { return Ok(()) };
    // A paused process does not end.
    if let Some(cgroup) = limits::open_cgroup(container.record.id.as_str(), &container.record.host.resources)?
    {
        let _ = cgroup.thaw();
    }
    let what = || format!("container {}", container.record.name);
    // It may end by itself between the two calls.
    let _ = send_signal(init.as_fd(), signal::KILL);
    let ended =
        poll(&mut [PollFd::new(&init, PollFlags::IN)], Some(&END_LIMIT)).during("wait for", what())?;
    match ended {
        0 => {
            Err(Error::refused("it does not end although it was killed", "a process may hang in the kernel"))
        }
        _ => Ok(()),
    }
}
