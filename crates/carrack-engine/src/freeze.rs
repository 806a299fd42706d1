//! Freezing a running container for the length of an operation.
//!
//! Invariant: a container is frozen only while a process holds the lock, or a file says that it may be; whoever finds
//! the file and can take the lock thaws the container, so that a killed command leaves no container that stands still.
//!
//! ```text
//! RUNROOT/
//!   containers/<id>/freeze.lock    held while somebody has the container frozen
//!   frozen/<id>                    it may be frozen: written before, removed after
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use carrack_container::{Container, ContainerId, Status};
use carrack_runtime::cgroup::Cgroup;
use carrack_sys::IoContext;
use carrack_sys::atomic::{self, Durability};
use carrack_sys::lock::Lock;
use carrack_sys::signals::SignalFd;
use rustix::process::Signal;

use crate::{Engine, Error, Result, limits};

/// Signals that end a command; they wait until the container goes on.
const ENDING: [Signal; 3] = [Signal::HUP, Signal::INT, Signal::TERM];

/// A container that stands still; dropped, it goes on, unless a user has paused it.
pub(crate) struct Frozen {
    /// What is to go on, and the file that says so.
    thaw: Option<(Cgroup, PathBuf)>,
    _lock: Lock,
    /// Dropped last: a signal that has come meanwhile then acts.
    _signals: SignalFd,
}

impl Engine {
    /// Freezes a running container; `None` when it does not run (any more).
    pub(crate) fn freeze(&self, container: &Container) -> Result<Option<Frozen>> {
        let id = &container.record.id;
        let signals = SignalFd::new(&ENDING.map(Signal::as_raw)).during("block", "signals")?;
        let status = |id| Ok::<_, Error>(self.containers.get(id)?.state.status);
        if !status(id)?.is_running() {
            return Ok(None);
        }
        let lock = Lock::exclusive(&self.freeze_lock(id))?;
        if status(id)? == Status::Paused {
            return Ok(Some(Frozen { thaw: None, _lock: lock, _signals: signals }));
        }
        let cgroup = limits::require_cgroup(id.as_str(), &container.record.host.resources)?;
        let marker = self.mark_frozen(id)?;
        let frozen = cgroup.freeze();
        let holder = Frozen { thaw: Some((cgroup, marker)), _lock: lock, _signals: signals };
        match frozen {
            Ok(()) => Ok(Some(holder)),
            Err(_) if !self.runs(id)? => Ok(None),
            Err(error) => Err(Error::refused(
                with_cause(&error),
                "go on without it, at the risk of half-written files: --pause=false",
            )),
        }
    }

    /// Lets all those of `containers` go on whose freezers were killed: one folder is looked at, however many they are.
    pub(crate) fn thaw_all_abandoned(&self, containers: &[Container]) -> Result<()> {
        let folder = self.frozen_folder();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.during("list", &folder)?,
        };
        for entry in entries {
            let marker = entry.during("list", &folder)?;
            let Some(id) = marker.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            match containers.iter().find(|container| container.record.id == id) {
                Some(container) => self.thaw_abandoned(container)?,
                None if self.containers.exists(&id)? => {}
                None => atomic::remove_file(&marker.path())?,
            }
        }
        Ok(())
    }

    /// Lets a container go on whose freezer was killed.
    pub(crate) fn thaw_abandoned(&self, container: &Container) -> Result<()> {
        let id = &container.record.id;
        let marker = self.frozen_marker(id);
        if container.state.status != Status::Running || !marker.exists() {
            return Ok(());
        }
        let Some(_lock) = Lock::try_exclusive(&self.freeze_lock(id))? else {
            return Ok(());
        };
        // It may have been paused since the container was looked at.
        if self.runs(id)? {
            limits::require_cgroup(id.as_str(), &container.record.host.resources)?.thaw()?;
        }
        Ok(atomic::remove_file(&marker)?)
    }

    fn runs(&self, id: &ContainerId) -> Result<bool> {
        Ok(self.containers.get(id)?.state.status == Status::Running)
    }

    /// Held by whoever makes the container stand still or go on.
    pub(crate) fn freeze_lock(&self, id: &ContainerId) -> PathBuf {
        self.containers.run_folder(id).join("freeze.lock")
    }

    /// Writes down that it may stand still without anybody who wants it so; the file that says so.
    pub(crate) fn mark_frozen(&self, id: &ContainerId) -> Result<PathBuf> {
        atomic::create_private_dir(&self.frozen_folder())?;
        let marker = self.frozen_marker(id);
        atomic::write(&marker, b"", 0o600, Durability::Volatile)?;
        Ok(marker)
    }

    fn frozen_marker(&self, id: &ContainerId) -> PathBuf {
        self.frozen_folder().join(id.as_str())
    }

    fn frozen_folder(&self) -> PathBuf {
        self.environment.paths.runroot.join("frozen")
    }
}

/// An error with its causes as one text.
fn with_cause(error: &carrack_runtime::Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let Some((cgroup, marker)) = &self.thaw else { return };
        // A cgroup that is gone has nobody to thaw. Otherwise the next command tries again: the marker stays.
        match cgroup.thaw() {
            Err(error) if cgroup.processes().is_ok_and(|processes| !processes.is_empty()) => {
                tracing::warn!(%error, "the container may stand still until the next command");
            }
            _ => drop(atomic::remove_file(marker)),
        }
    }
}
