//! The contracts that every kind of snapshot store fulfils; [`suite`](crate::suite) checks them.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{Read, Write};
use std::path::PathBuf;

use carrack_layer::{Applied, DiffOptions, DiffSummary};
use carrack_oci::{ChainId, DiffId};
use carrack_sys::tree::Usage;

use crate::folders::Staged;
use crate::{Mount, Problem, Result, SnapshotKey};

/// A store of snapshots. Every operation is atomic, and safe among threads and processes.
pub trait Snapshotter: Send + Sync {
    /// Whether a committed snapshot exists.
    fn contains(&self, id: &ChainId) -> Result<bool>;

    /// Makes a writable snapshot on `parent`, or on nothing. [`Error::Exists`](crate::Error::Exists) when the key is
    /// taken.
    fn prepare(&self, key: &SnapshotKey, parent: Option<&ChainId>) -> Result<Mount>;

    /// Makes a read-only snapshot that shows `parent`.
    fn view(&self, key: &SnapshotKey, parent: &ChainId) -> Result<Mount>;

    /// The mount of an active snapshot or a view, as `prepare` or `view` returned it.
    fn mount(&self, key: &SnapshotKey) -> Result<Mount>;

    /// Writes what an active snapshot changed on its parent as an OCI layer, an uncompressed tar, to `layer`; a view is
    /// [`Error::ReadOnly`](crate::Error::ReadOnly).
    ///
    /// Equal changes give equal bytes in every kind of store, and the snapshot stays as it is. It may be mounted; of what
    /// is written to it meanwhile a part is in the layer, and a file that goes away while it is read is an error: whoever
    /// wants one moment of a running container lets it stand still.
    fn diff(&self, key: &SnapshotKey, options: &DiffOptions, layer: &mut dyn Write) -> Result<DiffSummary>;

    /// Makes an active snapshot the committed one `id`, durable when this returns; its key is free again.
    ///
    /// `layer` is the diff ID that [`Snapshotter::diff`] gave for this very state, and `id` the chain ID of that layer on
    /// the parent. A store of tars makes the committed snapshot of the layer's tar, which is in the content store by
    /// now, others of the files as they are: so no mount of it may be open, and nothing has been written since the
    /// diff. When `id` exists already, the active one is discarded: equal ids mean equal content.
    fn commit(&self, key: &SnapshotKey, id: &ChainId, layer: &DiffId) -> Result<()>;

    /// Removes an active snapshot or a view; one that does not exist is removed already. An open mount of it keeps
    /// working on what is left.
    fn discard(&self, key: &SnapshotKey) -> Result<()>;

    /// Removes a committed snapshot; one that does not exist is removed already.
    /// [`Error::InUse`](crate::Error::InUse) when another snapshot stands on it.
    fn remove(&self, id: &ChainId) -> Result<()>;

    /// What a committed snapshot itself holds, without its parents.
    fn usage(&self, id: &ChainId) -> Result<Usage>;

    /// What an active snapshot has changed so far; nothing for a view.
    fn active_usage(&self, key: &SnapshotKey) -> Result<Usage>;

    /// What a snapshot takes on disk without its parents, as the file system counts blocks.
    fn disk_bytes(&self, name: &SnapshotName) -> Result<u64>;

    /// All snapshots; each before its parent.
    fn list(&self) -> Result<Vec<SnapshotInfo>>;
}

/// Makes committed snapshots of layers in two steps, so that all layers of an image can be unpacked at once.
pub trait LayerUnpacker: Send + Sync {
    /// Takes the uncompressed tar of a layer, and makes of it what a snapshot needs. `key` is for messages; `stored`
    /// says that the tar comes from the content store, where it is the blob of this digest.
    fn unpack(&self, key: &SnapshotKey, tar: &mut dyn Read, stored: Option<&DiffId>) -> Result<Unpacked>;

    /// A layer that an earlier `unpack` has left complete, and that no snapshot stands on perhaps.
    fn unpacked(&self, layer: &DiffId) -> Result<Option<Unpacked>> {
        let _ = layer;
        Ok(None)
    }

    /// Puts an unpacked layer on `parent` as the committed snapshot `id`. Nothing happens when `id` exists already.
    ///
    /// The folders that the layer did not describe take their metadata from the parent here. All data are synced
    /// before the snapshot gets its name; the name itself is durable after [`LayerUnpacker::seal`].
    fn stack(&self, unpacked: Unpacked, parent: Option<&ChainId>, id: &ChainId) -> Result<()>;

    /// Ends the stacking of an image's layers, of which `top` is the last: their names become durable, and the stack
    /// is made ready to be mounted often.
    fn seal(&self, top: &ChainId) -> Result<()>;
}

/// All that a store of snapshots can do, whatever its kind.
pub trait Snapshots: Snapshotter + LayerUnpacker {
    /// A committed snapshot and all that it stands on, itself first.
    fn stack_of(&self, id: &ChainId) -> Result<Vec<ChainId>>;

    /// Whether there is an active snapshot or a view of this key.
    fn has_key(&self, key: &SnapshotKey) -> Result<bool>;

    /// Removes every snapshot that is not to be kept, and what a crash has left half made.
    fn collect(&self, kept: &Kept) -> Result<Collected>;

    /// Whether snapshots live on the uncompressed tars of their layers in the content store, which must stay then:
    /// the compressed blob is not needed.
    fn needs_tars(&self) -> bool {
        false
    }

    /// The tars in the content store that a committed snapshot and those below it live on.
    fn tars_of(&self, id: &ChainId) -> Result<Vec<DiffId>> {
        let _ = id;
        Ok(Vec::new())
    }

    /// Everything that is wrong: damaged snapshots, and paths that are none where only snapshots belong. What is half
    /// made is not wrong; [`Snapshots::staged`] has it.
    fn check(&self) -> Result<Vec<Problem>>;

    /// Compares a committed snapshot with `tar`, the uncompressed layer that it was made of: `None`, or what differs.
    fn verify(&self, id: &ChainId, tar: &mut dyn Read) -> Result<Option<Problem>>;

    /// Takes away what [`Snapshots::check`] has found, whatever stands on it: the caller makes it anew from the layer,
    /// or removes the rest too.
    fn remove_damaged(&self, problem: &Problem) -> Result<()>;

    /// What is being made, or what a crash has left of it.
    fn staged(&self) -> Result<Vec<PathBuf>>;

    /// The files and folders that hold a snapshot. One may hold several snapshots.
    fn paths(&self, snapshot: &SnapshotName) -> Vec<PathBuf>;
}

/// What a collection deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Number of snapshots, committed, active or views.
    pub snapshots: u64,
    /// What they took on disk.
    pub bytes: u64,
}

/// What a collection spares. With a committed snapshot, all below it must be in here too.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Committed snapshots.
    pub chains: BTreeSet<ChainId>,
    /// Active snapshots and views.
    pub keys: BTreeSet<SnapshotKey>,
}

/// The name of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotName {
    /// A committed one.
    Committed(ChainId),
    /// An active one or a view.
    Key(SnapshotKey),
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed(id) => id.fmt(formatter),
            Self::Key(key) => key.fmt(formatter),
        }
    }
}

/// One line of [`Snapshotter::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: SnapshotName,
    /// Whether it is a view.
    pub is_view: bool,
    /// What it stands on.
    pub parent: Option<ChainId>,
}

impl SnapshotInfo {
    /// The id of a committed snapshot.
    pub fn committed(&self) -> Option<&ChainId> {
        match &self.name {
            SnapshotName::Committed(id) => Some(id),
            SnapshotName::Key(_) => None,
        }
    }

    /// The key of an active snapshot or a view.
    pub fn key(&self) -> Option<&SnapshotKey> {
        match &self.name {
            SnapshotName::Committed(_) => None,
            SnapshotName::Key(key) => Some(key),
        }
    }
}

/// A layer that has been unpacked and not stacked yet; dropped without that, it is garbage or removed again.
#[derive(Debug)]
pub struct Unpacked {
    pub(crate) diff_id: DiffId,
    pub(crate) size_bytes: u64,
    pub(crate) content: Content,
}

/// What a layer was made into.
#[derive(Debug)]
pub(crate) enum Content {
    /// Files in a folder.
    Files(Box<UnpackedFiles>),
    /// An index of its tar, in its place already.
    Index,
}

/// A layer as files in a folder of its own, whiteouts as overlayfs has them.
#[derive(Debug)]
pub(crate) struct UnpackedFiles {
    pub applied: Applied,
    pub staged: Staged,
    /// To know whether a sync has covered it.
    pub number: u64,
}

impl Unpacked {
    /// The digest of the uncompressed tar: compare it with what the image's config says before stacking.
    pub fn diff_id(&self) -> &DiffId {
        &self.diff_id
    }

    /// The length of the uncompressed tar.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn into_files(self) -> UnpackedFiles {
        match self.content {
            Content::Files(files) => *files,
            Content::Index => unreachable!("a store of folders unpacks into folders"),
        }
    }
}
