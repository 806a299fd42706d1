//! An image as a plain tree of files, outside of any store.
//!
//! Invariant: layers are put on each other in their order, each as a whole.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use carrack_layer::{ApplyOptions, apply};
use carrack_oci::DiffId;
use carrack_sys::rooted::Root;
use carrack_sys::{IoContext, tree};

use crate::files::make_files_folder;
use crate::vfs::merge;
use crate::{Result, SnapshotKey, links};

/// A tree that layers are put into.
#[derive(Debug)]
pub struct PlainTree {
    target: PathBuf,
    /// Where a layer is unpacked before it is put on the others: on the same file system.
    scratch: PathBuf,
    options: ApplyOptions,
}

impl PlainTree {
    /// Begins a tree in the folder `target`, which is made; one that exists must be empty. With an `owner`, all that is
    /// unpacked belongs to it.
    pub fn create(target: &Path, owner: Option<(u32, u32)>) -> Result<Self> {
        match fs::remove_dir(target) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            result => result.during("make room for the tree in", target)?,
        }
        make_files_folder(target, None)?;
        let name = format!(".{}", SnapshotKey::unique("unpack"));
        let options = ApplyOptions { owner, ..ApplyOptions::default() };
        Ok(Self { target: target.to_owned(), scratch: target.with_file_name(name), options })
    }

    /// Puts a layer, an uncompressed tar, on what is there; returns its diff ID.
    pub fn add(&self, tar: &mut dyn Read) -> Result<DiffId> {
        make_files_folder(&self.scratch, None)?;
        let layer = Root::open(&self.scratch)?;
        let target = Root::open(&self.target)?;
        let applied = apply(tar, &layer, &self.options)?;
        links::bring_up(&applied, &layer, Some(&target))?;
        if applied.is_opaque {
            tree::walk(&target, |place| {
                place.remove_all()?;
                Ok::<_, carrack_sys::Error>(false)
            })?;
        }
        merge::merge(&layer, &applied.implicit_dirs, &target)?;
        drop(layer);
        tree::remove_tree(&self.scratch)?;
        Ok(applied.diff_id)
    }
}

impl Drop for PlainTree {
    fn drop(&mut self) {
        if let Err(error) = tree::remove_tree(&self.scratch) {
            tracing::warn!(%error, "a folder beside the tree is left");
        }
    }
}
