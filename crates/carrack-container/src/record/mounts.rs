//! What a container sees beside the files of its image.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Mounts that the user asked for, and how the root file system is mounted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountSettings {
    /// Files and folders of the host or of volumes.
    pub binds: Vec<Bind>,
    /// Empty file systems in memory.
    pub tmpfs: Vec<TmpfsMount>,
    /// Whether the root file system cannot be written to.
    pub read_only: bool,
    /// The size of `/dev/shm`.
    pub shm_size_bytes: Option<u64>,
}

/// A file or folder of the host that is seen in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where it is seen in the container.
    pub destination: PathBuf,
    /// Whether it cannot be written to.
    pub read_only: bool,
}

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsMount {
    /// Where it is seen in the container.
    pub destination: PathBuf,
    /// Mount options as given, as in `size=64m,mode=1777`.
    pub options: String,
}
