//! Leftovers: what crashed and cancelled operations have left, and what no record names. Nothing is wrong with them;
//! they take space until the next collection.
//!
//! Invariant: nothing here is looked at or taken away while an operation is at work.

use std::fs;
use std::path::{Path, PathBuf};

use carrack_oci::Digest;
use carrack_snapshot::SnapshotName;
use carrack_sys::lock::Lock;
use carrack_sys::{IoContext, atomic, tree};

use crate::{Engine, Result};

/// Folders of records below the root, in which a crash may leave a temporary file.
const RECORD_FOLDERS: [&str; 8] =
    ["", "images", "images/log", "build-cache", "layer-origins", "manifests", "snapshots/kept", "secrets"];

/// What the next collection takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Number of files and folders; a snapshot or a container's folder counts as one.
    pub count: usize,
    /// What they take on disk.
    pub bytes: u64,
}

impl Engine {
    /// Counts leftovers; `None` while an operation is at work, because what it writes looks the same.
    pub(crate) fn leftovers(&self) -> Result<Option<Leftovers>> {
        let Some(_alone) = Lock::try_exclusive(&self.operations_lock())? else { return Ok(None) };
        let paths = self.leftover_paths()?;
        let mut leftovers = Leftovers { count: paths.len(), bytes: 0 };
        for path in &paths {
            leftovers.bytes += tree::allocated_bytes(path)?;
        }
        Ok(Some(leftovers))
    }

    /// Every path that the next collection removes; needs that no operation is at work.
    pub(crate) fn leftover_paths(&self) -> Result<Vec<PathBuf>> {
        let marked = self.mark()?;
        let mut paths = self.temporary_files()?;
        paths.extend(self.images.scan()?.leftovers);
        paths.extend(self.containers.scan()?.leftovers);
        paths.extend(self.volumes.leftovers()?);
        paths.extend(self.content.ingests()?);
        paths.extend(self.origins.unwanted(|origin| marked.names(origin))?);
        paths.extend(self.abandoned_leases()?.into_iter().map(|(path, _)| path));
        paths.extend(self.abandoned_ranges()?.into_iter().map(|(_, path)| path));
        let others = self.other_snapshots()?;
        for store in self.with_own(&others) {
            paths.extend(store.staged()?);
            for snapshot in store.list()? {
                let is_named = match &snapshot.name {
                    SnapshotName::Committed(id) => marked.snapshots.chains.contains(id),
                    SnapshotName::Key(key) => marked.snapshots.keys.contains(key),
                };
                if !is_named {
                    paths.extend(store.paths(&snapshot.name));
                }
            }
        }
        let lent = self.content.borrowed_by(&marked.blobs)?;
        let is_unused = |digest: &Digest| !marked.blobs.contains(digest) && !lent.contains_key(digest);
        let blobs = self.content.list()?.into_iter().filter(|(digest, _)| is_unused(digest));
        paths.extend(blobs.flat_map(|(digest, _)| self.content.paths(&digest)));
        let kept = self.content.lent()?.into_iter().filter(|(digest, _)| !lent.contains_key(digest));
        paths.extend(kept.map(|(_, path)| path));
        paths.sort();
        paths.dedup();
        Ok(paths)
    }

    /// Removes what is neither content nor snapshot; needs that no operation is at work.
    pub(crate) fn clear_leftovers(&self) -> Result<()> {
        for path in self.temporary_files()? {
            atomic::remove_file(&path)?;
        }
        // Without volumes there is no folder of theirs, and none is made.
        if !self.volumes.leftovers()?.is_empty() {
            let _alone = self.volumes.alone()?;
            self.volumes.leftovers()?.iter().try_for_each(|path| tree::remove_tree(path))?;
        }
        self.containers.sweep()?;
        self.clear_run_state()
    }

    /// What a crash leaves of a record that was being written, and marks of what was never made.
    fn temporary_files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for folder in RECORD_FOLDERS.map(|name| self.environment.paths.root.join(name)) {
            files.extend(temporary_files_in(&folder)?);
        }
        files.extend(self.void_marks()?);
        Ok(files)
    }
}

/// The files of [`atomic::write`] that were not renamed.
fn temporary_files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.during("list", folder)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.during("list", folder)?;
        let name = entry.file_name();
        let is_temporary =
            name.as_encoded_bytes().starts_with(b".") && name.as_encoded_bytes().ends_with(b".tmp");
        if is_temporary {
            files.push(entry.path());
        }
    }
    Ok(files)
}
