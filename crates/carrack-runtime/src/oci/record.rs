//! What is kept of a container, and what follows from it and the kernel: its status.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use carrack_sys::atomic::{self, Durability};
use carrack_sys::process::start_time_ticks;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use super::SPEC_VERSION;
use crate::cgroup::{Cgroup, Place, Scope};
use crate::standby::SOCKET;
use crate::{Error, Result};

/// What a container does (runtime-spec, runtime.md, "State", and `paused`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It waits for its start.
    Created,
    /// Its program runs.
    Running,
    /// Its processes stand still.
    Paused,
    /// Its program has ended.
    Stopped,
}

impl Status {
    /// As the spec writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// The state of the specification, as hooks and callers get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the specification.
    pub oci_version: String,
    /// The container.
    pub id: String,
    /// What it does.
    pub status: Status,
    /// Its first process; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Its bundle.
    pub bundle: PathBuf,
    /// The spec's annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl State {
    /// Of a container that no [`Record`](super::Record) is kept of.
    pub fn new(id: &str, status: Status, bundle: PathBuf) -> Self {
        let oci_version = SPEC_VERSION.to_owned();
        Self { oci_version, id: id.to_owned(), status, pid: None, bundle, annotations: BTreeMap::new() }
    }
}

/// What is kept of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The id.
    pub id: String,
    /// How it was made.
    pub details: Details,
    /// Its first process and the time of its start in clock ticks since boot; `None` before there is one.
    pub process: Option<(i32, u64)>,
    /// Whether all of it was made.
    pub complete: bool,
}

/// How a container was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// The root filesystem's folder.
    pub rootfs: PathBuf,
    /// The spec's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its cgroup in each hierarchy.
    pub cgroup: PathBuf,
    /// The scope by which systemd made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Seconds since 1970.
    pub created_seconds: u64,
    /// The user who made it.
    pub owner: u32,
}

impl Details {
    pub(super) fn cgroup_place(&self) -> Place {
        match &self.scope {
            None => Place::Path(self.cgroup.clone()),
            Some(scope) => Place::Scope(scope.clone()),
        }
    }
}

const FILE: &str = "record.json";

impl Record {
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        let Some(bytes) = atomic::read(&folder.join(FILE))? else { return Ok(None) };
        let record = serde_json::from_slice(&bytes);
        record.map(Some).map_err(|error| Error::Bundle {
            path: folder.join(FILE),
            reason: format!("expected the record of a container: {error}"),
        })
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self).expect("a record has string keys only");
        Ok(atomic::write(&folder.join(FILE), &bytes, 0o600, Durability::Volatile)?)
    }

    /// The status that the kernel's view of the process and the files of `folder` make.
    pub(super) fn status(&self, folder: &Path) -> Result<Status> {
        if !self.is_alive() {
            // Whoever makes a container that has no process yet holds its lock.
            let is_made = !self.complete && self.process.is_none() && is_locked(folder)?;
            return Ok(if is_made { Status::Creating } else { Status::Stopped });
        }
        if !self.complete {
            return Ok(Status::Creating);
        }
        if folder.join(SOCKET).exists() {
            return Ok(Status::Created);
        }
        let frozen = self.cgroup().is_ok_and(|cgroup| cgroup.is_frozen().unwrap_or(false));
        Ok(if frozen { Status::Paused } else { Status::Running })
    }

    /// Whether the first process is the one that was made, and has not ended.
    fn is_alive(&self) -> bool {
        self.process.is_some_and(|(pid, started)| {
            start_time_ticks(pid).is_ok_and(|ticks| ticks == started) && !is_zombie(pid)
        })
    }

    /// A handle of the first process while it lives.
    pub(super) fn pidfd(&self) -> Option<OwnedFd> {
        let (pid, _) = self.process?;
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // Asked after the handle was opened: it is of the process that lives now.
        self.is_alive().then_some(pidfd)
    }

    /// Its cgroup as far as it exists.
    pub fn cgroup(&self) -> Result<Cgroup> {
        Cgroup::open_at(&self.details.cgroup_place())
    }

    pub(super) fn state(&self, status: Status) -> State {
        let pid = self.process.map(|(pid, _)| pid).filter(|_| status != Status::Stopped);
        State {
            oci_version: SPEC_VERSION.to_owned(),
            id: self.id.clone(),
            status,
            pid,
            bundle: self.details.bundle.clone(),
            annotations: self.details.annotations.clone(),
        }
    }
}

fn is_locked(folder: &Path) -> Result<bool> {
    Ok(carrack_sys::lock::Lock::try_exclusive(&folder.join("lock"))?.is_none())
}

/// A process that has ended and whose parent has not asked for its status.
fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, fields)| fields.trim_start().chars().next());
    matches!(state, None | Some('Z' | 'X'))
}
