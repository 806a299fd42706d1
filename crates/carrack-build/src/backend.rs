//! What a build needs from who drives it: base images, file systems, a way to run a command, and a cache.
//!
//! The build decides what happens in which order; the backend keeps the state. A value that the backend hands out
//! and that is dropped without `commit` leaves nothing behind.

use std::fs::File;

use carrack_dockerfile::{CacheSharing, RunNetwork};
use carrack_oci::{Descriptor, DiffId, ImageConfig, Platform};
use carrack_sys::rooted::Root;
use serde::{Deserialize, Serialize};

use crate::CacheKey;

/// Why a backend could not do its part.
pub type BackendError = Box<dyn std::error::Error + Send + Sync>;

/// The result of a backend's method.
pub type BackendResult<T> = Result<T, BackendError>;

/// One layer, as it stands in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// The layer as stored.
    pub descriptor: Descriptor,
}

/// An image that a stage begins with or copies from.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// Its config.
    pub config: ImageConfig,
    /// Its layers, base first.
    pub layers: Vec<Layer>,
}

/// What a step did to the file system; this is what the cache holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The layer it made; `None` when there was nothing to do, as for `WORKDIR` on a folder that exists.
    pub layer: Option<Layer>,
}

impl Outcome {
    /// The file system stays as it is.
    pub const UNCHANGED: Self = Self { layer: None };
}

/// A file system that a step reads or changes.
pub trait Workspace {
    /// The merged file system.
    fn root(&self) -> &Root;
}

/// Which stream of a command some output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The command of one `RUN`.
#[derive(Debug)]
pub struct RunStep<'a> {
    /// Program and arguments; a program without `/` is looked up in `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment as `NAME=value`, save `HOME`, which follows from the user where it is not here.
    pub env: Vec<String>,
    /// `user[:group]`, to be looked up in the workspace; empty is root.
    pub user: &'a str,
    /// Absolute; it exists unless the base image lies.
    pub working_dir: &'a str,
    /// Which network it has.
    pub network: RunNetwork,
    /// In the order of the instruction.
    pub mounts: Vec<StepMount<'a>>,
}

/// A mount that exists for one step. The mount point is made where it is missing, and is not part of the layer.
#[derive(Debug)]
pub struct StepMount<'a> {
    /// Absolute path in the container; empty only for a secret given in the environment alone.
    pub target: String,
    /// What is mounted.
    pub kind: StepMountKind<'a>,
}

/// What is mounted.
#[derive(Debug)]
pub enum StepMountKind<'a> {
    /// A file or folder of a file system that the build holds.
    Bind {
        /// The file system.
        root: &'a Root,
        /// The path in it; links are followed within it.
        path: String,
        /// Otherwise it may be written to, and what is written is dropped.
        read_only: bool,
    },
    /// A read-only file with this content.
    File {
        /// Its bytes.
        content: Vec<u8>,
        /// Its mode.
        mode: u32,
    },
    /// A folder that outlives the build. The id is any text: never a path.
    Cache {
        /// Its name.
        id: String,
        /// What two steps at once do.
        sharing: CacheSharing,
        /// Whether it is read-only.
        read_only: bool,
        /// Mode, user and group of the folder when it is new.
        new_folder: (u32, u32, u32),
    },
    /// A file system in memory.
    Tmpfs {
        /// Its largest size.
        size_bytes: Option<u64>,
    },
    /// A value that must not enter the image; as a file at the target, in a variable, or both.
    Secret {
        /// Its name.
        id: String,
        /// The variable.
        env: Option<String>,
        /// Whether the step fails without it.
        required: bool,
        /// Mode, user and group of the file.
        file: (u32, u32, u32),
    },
    /// The socket of an SSH agent.
    Ssh {
        /// Its name.
        id: String,
        /// Whether the step fails without it.
        required: bool,
        /// Mode, user and group of the socket.
        file: (u32, u32, u32),
    },
}

/// What the engine does for a build.
pub trait Backend {
    /// A file system that is open.
    type Workspace: Workspace;

    /// Resolves an image, and fetches what is needed of it.
    fn base(&mut self, name: &str, platform: &Platform) -> BackendResult<BaseImage>;

    /// What a step with this key did; `None` when it is not known, or what it made is no longer there.
    fn cached(&mut self, key: &CacheKey) -> BackendResult<Option<Outcome>>;

    /// Remembers what a step did.
    fn record(&mut self, key: &CacheKey, outcome: &Outcome) -> BackendResult<()>;

    /// A file system to change, on top of `layers` (base first; none is an empty root). The layers may never have
    /// been stacked in this way before: `COPY --link` puts a layer on others than it was made on.
    fn prepare(&mut self, layers: &[Layer]) -> BackendResult<Self::Workspace>;

    /// The same, to read only.
    fn view(&mut self, layers: &[Layer]) -> BackendResult<Self::Workspace>;

    /// Runs a command and returns its exit code (128 + n for signal n).
    fn run(
        &mut self,
        workspace: &mut Self::Workspace,
        step: &RunStep<'_>,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> BackendResult<i32>;

    /// Makes a layer of what has changed since `prepare`; times later than `timestamp_unix` become it.
    fn commit(&mut self, workspace: Self::Workspace, timestamp_unix: i64) -> BackendResult<Layer>;

    /// Fetches what an `ADD` names by URL.
    fn fetch(&mut self, url: &str) -> BackendResult<File>;
}
