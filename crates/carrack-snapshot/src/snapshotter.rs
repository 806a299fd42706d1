//! The contracts that every kind of snapshot store fulfils; [`suite`](crate::suite) checks them.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use carrack_layer::{Applied, DiffOptions, DiffSummary};
use carrack_oci::{ChainId, DiffId};
use carrack_sys::lock::Lock;
use carrack_sys::tree::{self, Usage};

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

    /// Writes what an active snapshot changed as an OCI layer, an uncompressed tar, to `layer`.
    ///
    /// Equal changes give equal bytes. No mount of it may be open.
    fn diff(&self, key: &SnapshotKey, options: &DiffOptions, layer: &mut dyn Write) -> Result<DiffSummary>;

    /// Makes an active snapshot a committed one, durable when this returns; its key is free again.
    ///
    /// `layer` is the diff ID of [`Snapshotter::diff`], whose tar is in the content store by now. No mount of it may be open. When `id` exists already, the active one is discarded: equal ids mean equal content.
    fn commit(&self, key: &SnapshotKey, id: &ChainId, layer: &DiffId) -> Result<()>;

    /// Removes an active snapshot or a view; one that does not exist is removed already. An open mount of it keeps
    /// working on what is left.
    fn discard(&self, key: &SnapshotKey) -> Result<()>;

    /// Removes a committed snapshot; one that does not exist is removed already.
    /// [`Error::InUse`](crate::Error::InUse) when another snapshot stands on it.
    fn remove(&self, id: &ChainId) -> Result<()>;

    /// What a committed snapshot itself holds, without its parents.
    fn usage(&self, id: &ChainId) -> Result<Usage>;

    /// All snapshots; each before its parent.
    fn list(&self) -> Result<Vec<SnapshotInfo>>;
}

/// Makes committed snapshots of layers in two steps, so that all layers of an image can be unpacked at once.
pub trait LayerUnpacker: Send + Sync {
    /// Applies an uncompressed tar to a folder of its own. `key` is for messages.
    fn unpack(&self, key: &SnapshotKey, tar: &mut dyn Read) -> Result<Unpacked>;

    /// Puts an unpacked layer on `parent` as the committed snapshot `id`. Nothing happens when `id` exists already.
    ///
    /// The folders that the layer did not describe take their metadata from the parent here. All data are synced
    /// before the snapshot gets its name; the name itself is durable after [`LayerUnpacker::sync`].
    fn stack(&self, unpacked: Unpacked, parent: Option<&ChainId>, id: &ChainId) -> Result<()>;

    /// Makes the names of all stacked snapshots durable.
    fn sync(&self) -> Result<()>;
}

/// All that a store of snapshots can do, whatever its kind.
pub trait Snapshots: Snapshotter + LayerUnpacker {
    /// A committed snapshot and all that it stands on, itself first.
    fn stack_of(&self, id: &ChainId) -> Result<Vec<ChainId>>;

    /// Removes what a crash has left half made, unless somebody is making something right now.
    fn clear_staging(&self) -> Result<()>;

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

/// The name of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotName {
    /// A committed one.
    Committed(ChainId),
    /// An active one or a view.
    Key(SnapshotKey),
}

/// One line of [`Snapshotter::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: SnapshotName,
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

/// A layer that has been unpacked and not stacked yet; dropped without that, it is removed again.
#[derive(Debug)]
pub struct Unpacked {
    /// What was applied.
    pub applied: Applied,
    pub(crate) staged: Staged,
    /// Counts the unpacked layers of this process, to know which ones a sync has covered.
    pub(crate) number: u64,
}

impl Unpacked {
    /// The digest of the uncompressed tar: compare it with what the image's config says before stacking.
    pub fn diff_id(&self) -> &DiffId {
        &self.applied.diff_id
    }
}

/// A folder that is being filled; removed when dropped, unless it has been renamed away.
#[derive(Debug)]
pub(crate) struct Staged {
    pub path: PathBuf,
    /// While it is held, nobody takes the folder for one that a crash left.
    pub _lock: Lock,
}

impl Staged {
    /// Where the files of the snapshot go.
    pub fn files(&self) -> PathBuf {
        files_of(&self.path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = tree::remove_tree(&self.path) {
            tracing::warn!(%error, "a staging folder is left for the next cleaning");
        }
    }
}

pub(crate) fn files_of(snapshot: &Path) -> PathBuf {
    snapshot.join("fs")
}
