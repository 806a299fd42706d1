//! A layer that was unpacked by itself is put onto what is below it.
//!
//! Invariant: a whiteout removes what the lower layers have, and nothing that the layer itself brings: the layer holds
//! a name either as a whiteout or as an entry.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use carrack_layer::is_opaque;
use carrack_sys::rooted::{Metadata, Place, Root};
use carrack_sys::tree;

use crate::Result;
use crate::files::copy_folder_metadata;

/// Moves all of `layer` onto `target`; the folders `implicit` keep the look that they have there.
pub(crate) fn merge(layer: &Root, implicit: &[PathBuf], target: &Root) -> Result<()> {
    let implicit: HashSet<&Path> = implicit.iter().map(PathBuf::as_path).collect();
    let mut folders = vec![PathBuf::new()];
    // Of folders that keep their look, the time: whatever is moved into them changes it.
    let mut times = HashMap::new();
    if implicit.contains(Path::new("")) {
        times.extend(target.at("")?.metadata()?.map(|metadata| (PathBuf::new(), metadata.mtime)));
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
        if let Some(own) = own.filter(|_| !is_made && implicit.contains(place.path())) {
            times.insert(place.path().to_owned(), own.mtime);
        }
        folders.push(place.path().to_owned());
        Ok::<_, crate::Error>(true)
    })?;
    for path in folders.iter().rev() {
        match times.get(path) {
            Some(mtime) => target.at(path)?.set_mtime(*mtime)?,
            None => copy_folder_metadata(&layer.at(path)?, &target.at(path)?)?,
        }
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
