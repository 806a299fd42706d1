//! A layer that was unpacked by itself is put onto a copy of what is below it.
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

/// Moves all of `layer` onto `target`, a copy of `below`; the folders `implicit` look like those there.
pub(super) fn merge(layer: &Root, implicit: &[PathBuf], below: Option<&Root>, target: &Root) -> Result<()> {
    let implicit: HashSet<&Path> = implicit.iter().map(PathBuf::as_path).collect();
    let mut folders = vec![PathBuf::new()];
    let mut made = HashSet::new();
    tree::walk(layer, |place| {
        let Some(metadata) = place.metadata()? else { return Ok(false) };
        let there = target.at(place.path())?;
        if metadata.is_whiteout() {
            there.remove_all()?;
            return Ok(false);
        }
        if !metadata.is_dir() {
            if there.metadata()?.is_some_and(|own| own.is_dir()) {
                there.remove_all()?;
            }
            place.rename(&there, true)?;
            return Ok(false);
        }
        if put_folder(place, &there)? {
            made.insert(place.path().to_owned());
        }
        folders.push(place.path().to_owned());
        Ok::<_, crate::Error>(true)
    })?;
    for path in folders.iter().rev() {
        let source = match below {
            Some(below) if implicit.contains(path.as_path()) && !made.contains(path) => below,
            _ => layer,
        };
        copy_folder_metadata(&source.at(path)?, &target.at(path)?)?;
    }
    Ok(())
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
