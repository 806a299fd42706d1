//! What a container sees beside the files of its image.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Mounts that the user asked for, and how the root file system is mounted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountSettings {
    /// Mounts of `--volume`, `--mount`, `--volumes-from` and of the image's `VOLUME`, in the order they are made.
    pub points: Vec<MountPoint>,
    /// Empty file systems in memory, of `--tmpfs`.
    pub tmpfs: Vec<TmpfsMount>,
    /// What becomes of the volumes that its image declares.
    pub image_volumes: ImageVolumes,
    /// Whether its program is systemd, which wants places in memory and a cgroup of its own to write to.
    pub systemd: bool,
    /// Containers whose mounts it has too, as given: `NAME[:OPTIONS]`.
    pub volumes_from: Vec<String>,
    /// Whether the root file system cannot be written to.
    pub read_only: bool,
    /// Whether a read-only root has places in memory to write to.
    pub read_only_tmpfs: bool,
    /// The size of `/dev/shm`.
    pub shm_size_bytes: Option<u64>,
}

impl MountSettings {
    /// The names of the volumes that were made for the container alone, and go with it.
    pub fn own_volumes(&self) -> impl Iterator<Item = &str> {
        self.points.iter().filter_map(|point| match &point.source {
            MountSource::Volume { name, anonymous: true } => Some(name.as_str()),
            _ => None,
        })
    }
}

/// What becomes of the volumes that an image declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageVolumes {
    /// Each is a volume of the container's own.
    #[default]
    Anonymous,
    /// Each is an empty file system in memory.
    Tmpfs,
    /// They are folders like others.
    Ignore,
}

/// One mount that a user or an image asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountPoint {
    /// Where it is seen in the container: absolute, without `.` and `..`.
    pub destination: PathBuf,
    /// What is seen there.
    pub source: MountSource,
    /// Which flag asked for it, which decides where `inspect` shows it.
    pub origin: MountOrigin,
    /// The options of `--volume` as given.
    pub mode: String,
    /// Whether it cannot be written to.
    pub read_only: bool,
    /// How far read-only reaches where other mounts are below.
    pub depth: MountDepth,
    /// How mounts below it pass between host and container, as in `rslave`.
    pub propagation: Option<String>,
    /// Further options for the kernel: `nosuid`, `noexec`, `nodev` and their opposites.
    pub attributes: Vec<String>,
    /// A part of the volume or image.
    pub subpath: Option<PathBuf>,
    /// Whether SELinux labels of the source are changed to the container's.
    pub relabel: Option<Relabel>,
    /// Whether the source is given to the container's user.
    pub chown: bool,
    /// Whether changes go to an upper folder that is thrown away.
    pub overlay: bool,
    /// Whether a volume stays empty although the image has files there.
    pub no_copy: bool,
    /// Whether a missing folder of the host is made.
    pub make_source: bool,
    /// Mappings of owners.
    pub idmap: Option<OwnerMap>,
}

impl MountPoint {
    /// The name of the volume that it shows.
    pub fn volume(&self) -> Option<&str> {
        match &self.source {
            MountSource::Volume { name, .. } => Some(name),
            _ => None,
        }
    }
}

/// What is seen at a mount point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum MountSource {
    /// A file or folder of the host.
    Bind {
        /// Where it is.
        path: PathBuf,
    },
    /// Each file and folder of the host that a pattern names, below the destination. Only in requests: a record has
    /// what was found.
    Glob {
        /// The pattern.
        pattern: String,
    },
    /// A volume.
    Volume {
        /// Its name; empty in requests for a volume of the container's own.
        name: String,
        /// Whether it goes with the container.
        anonymous: bool,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Its options, as in `size=64m`.
        options: Vec<String>,
    },
    /// The files of an image.
    Image {
        /// As given; in records the ID.
        image: String,
    },
    /// Pseudo-terminals.
    Devpts {
        /// Its options, as in `mode=620`.
        options: Vec<String>,
    },
}

impl Default for MountSource {
    fn default() -> Self {
        Self::Volume { name: String::new(), anonymous: true }
    }
}

/// The flag that a mount comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountOrigin {
    /// `--volume`.
    #[default]
    Volume,
    /// `--mount`.
    Mount,
    /// Another container, or the image's `VOLUME`.
    Inherited,
}

/// Which mounts below a bind mount are seen, and which of them are read-only with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountDepth {
    /// All, read-only with it.
    #[default]
    Recursive,
    /// All, and read-only ones must be possible.
    ReadOnly,
    /// All, and they stay writable.
    Writable,
    /// None.
    Single,
}

/// Whose SELinux label a source gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relabel {
    /// That of all containers (`z`).
    Shared,
    /// That of this container alone (`Z`).
    Private,
}

/// Who inside is who on the file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerMap {
    /// Users: first on the file system, first in the container, how many.
    pub users: Vec<[u32; 3]>,
    /// Groups.
    pub groups: Vec<[u32; 3]>,
}

/// A file or folder of the host that carrack itself shows in a container.
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
