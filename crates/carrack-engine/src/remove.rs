//! Removing containers, and undoing what dead ones left in the kernel.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use carrack_container::{Container, ContainerId, ContainerRecord, Effect, Locked, Status};
use carrack_network::Attachment;
use carrack_runtime::cgroup::{Cgroup, Place, Scope};
use carrack_snapshot::SnapshotKey;
use carrack_sys::IoContext;
use carrack_sys::atomic::{self, Durability};
use carrack_sys::lock::Lock;
use carrack_sys::process::send_signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::check::container_of;
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

    /// Removes every container that passes and is not in use; returns their IDs, and what they took on disk.
    pub fn prune_containers(&self, filters: &ContainerFilters) -> Result<(Vec<ContainerId>, u64)> {
        let meant = self.filter_containers(filters, self.containers.list()?)?;
        let mut sizes = BTreeMap::new();
        for container in meant.into_iter().filter(|container| !container.state.status.is_active()) {
            sizes.insert(container.record.id.clone(), self.container_size(&container)?.0);
        }
        let removed = self.prune_containers_that(&|container| sizes.contains_key(&container.record.id))?;
        let bytes = removed.iter().filter_map(|id| sizes.get(id)).sum();
        Ok((removed, bytes))
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
            if !force && container.state.status != Status::Initialized {
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
        self.delete_locked(locked, &container.record)
    }

    /// Deletes everything of a container of which nothing is left in the kernel.
    pub(crate) fn delete_locked(&self, locked: Locked<'_>, record: &ContainerRecord) -> Result<()> {
        locked.delete()?;
        self.release_users(&record.id)?;
        self.container_event(record, "destroy", &[]);
        self.discard_snapshot(&SnapshotKey::new(&record.snapshot)?)?;
        // After the container, which names them; what a crash leaves, a prune of volumes takes.
        match record.host.auto_remove {
            true => self.remove_own_volumes(record),
            false => Ok(()),
        }
    }

    /// Undoes what containers left whose monitor is gone: killed, or crashed, or lost by a reboot. Returns all
    /// containers, newest first.
    pub(crate) fn recover(&self) -> Result<Vec<Container>> {
        self.recover_from_reboot()?;
        let mut containers = self.containers.list()?;
        self.thaw_all_abandoned(&containers)?;
        let mut changed = false;
        for container in &containers {
            let Container { record, state } = container;
            let is_lost = state.lost || state.status == Status::Created;
            // Its monitor, which would have removed it, was killed between the two; else it has the lock.
            let is_over =
                record.host.auto_remove && matches!(state.status, Status::Exited | Status::Removing);
            if is_over || is_lost && !state.effects.is_empty() {
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

    /// Discards what is left of containers whose records a reboot has taken, once after each reboot. While another
    /// operation is going on, the next command does it.
    fn recover_from_reboot(&self) -> Result<()> {
        let done = self.environment.paths.runroot.join("recovered");
        if done.exists() {
            return Ok(());
        }
        let Some(_alone) = Lock::try_exclusive(&self.operations_lock())? else { return Ok(()) };
        self.containers.sweep()?;
        for snapshot in self.snapshots.list()? {
            if let (Some(id), Some(key)) = (container_of(&snapshot.name), snapshot.key())
                && !self.containers.exists(&id)?
            {
                self.discard_snapshot(key)?;
            }
        }
        Ok(atomic::write(&done, b"", 0o600, Durability::Volatile)?)
    }

    pub(crate) fn recover_container(&self, id: &ContainerId) -> Result<()> {
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
            Effect::Cgroup { path } => undo_cgroup(&Place::Path(path.into())),
            Effect::Scope { slice, unit } => {
                undo_cgroup(&Place::Scope(Scope { slice: slice.clone(), unit: unit.clone() }))
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
            Effect::Secrets { folder } => crate::secrets::forget(folder),
            Effect::Hooks { id, bundle } => crate::hooks::clean_up(id, bundle),
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

fn undo_cgroup(place: &Place) -> Result<()> {
    let cgroup = Cgroup::open_at(place)?;
    cgroup.kill()?;
    Ok(cgroup.delete()?)
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
