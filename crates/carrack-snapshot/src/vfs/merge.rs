//! A layer that was unpacked by itself is put onto what is below it.
//!
//! Invariant: a whiteout removes what the lower layers have, and nothing that the layer itself brings: the layer holds
//! a name either as a whiteout or as an entry.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use carrack_layer::is_opaque;
use carrack_sys::rooted::{Metadata, Place, Root};
use carrack_sys::tree;

use crate::Result;
use crate::files::copy_folder_metadata;

/// Moves all of `layer` onto `target`; the folders `implicit` keep the look that they have there.
pub(crate) fn merge(layer: &Root, implicit: &[PathBuf], target: &Root) -> Result<()> {
    let implicit: HashSet<&Path> = implicit.iter().map(PathBuf::as_path).collect();
    let mut folders = Vec::new();
    if let (Some(metadata), Some(own)) = (layer.at("")?.metadata()?, target.at("")?.metadata()?) {
        let keeps_look = implicit.contains(Path::new(""));
        folders.push(Folder::new(Path::new(""), &metadata, keeps_look.then_some(&own)));
    }
    tree::walk(layer, |place| {
        let Some(metadata) = place.metadata()? else { return Ok(false) };
        let there = target.at(place.path())?;
        let own = there.metadata()?;
        if metadata.is_whiteout() {
            there.remove_all()?;
            return Ok(false);
        }
        if !metadata.is_dir() {
            if own.is_some_and(|own| own.is_dir()) {
                there.remove_all()?;
            }
            place.rename(&there, true)?;
            return Ok(false);
        }
        let is_made = put_folder(place, &there)?;
        let kept = own.as_ref().filter(|_| !is_made && implicit.contains(place.path()));
        folders.push(Folder::new(place.path(), &metadata, kept));
        Ok::<_, crate::Error>(true)
    })?;
    folders.iter().rev().try_for_each(|folder| folder.finish(layer, target))
}

/// A folder of both. Its time is noted before anything is moved out of the one and into the other, which changes it.
struct Folder {
    path: PathBuf,
    mtime: (i64, u32),
    keeps_look: bool,
}

impl Folder {
    /// A folder of the layer; `kept` is what it looks like in the target, if that is to stay.
    fn new(path: &Path, metadata: &Metadata, kept: Option<&Metadata>) -> Self {
        let mtime = kept.unwrap_or(metadata).mtime;
        Self { path: path.to_owned(), mtime, keeps_look: kept.is_some() }
    }

    fn finish(&self, layer: &Root, target: &Root) -> Result<()> {
        let there = target.at(&self.path)?;
        if !self.keeps_look {
            copy_folder_metadata(&layer.at(&self.path)?, &there)?;
        }
        Ok(there.set_mtime(self.mtime)?)
    }
}

/// Makes sure that there is a folder, empty if the layer's hides what is below; whether it was made.
fn put_folder(place: &Place<'_>, there: &Place<'_>) -> Result<bool> {
    let is_kept = there.metadata()?.as_ref().is_some_and(Metadata::is_dir) && !is_opaque(place)?;
    if !is_kept {
        there.remove_all()?;
        there.create_dir(0o700)?;
    }
    Ok(!is_kept)
}
