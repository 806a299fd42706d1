//! A plain archive becomes files in a file system that may have some already (`ADD`, `cp`, `import`).
//!
//! Invariant: names have no meaning beyond themselves here; a `.wh.` name is a file like any other.

use std::io::Read;
use std::path::{Path, PathBuf};

use carrack_sys::rooted::Root;

use crate::Result;
use crate::path::checked_path;
use crate::tar::{Entry, EntryKind, Reader};
use crate::unpack::{Rules, Unpacker};

/// How an archive is extracted.
#[derive(Clone, Debug, Default)]
pub struct ExtractOptions {
    /// The folder below the target that is the archive's root; it exists. Links in it are followed.
    pub folder: PathBuf,
    /// Owner of everything, in place of what the archive says.
    pub chown: Option<(u32, u32)>,
}

/// Extracts an uncompressed tar below `target`; reads it to its end.
///
/// Folders are merged, anything else replaces what has its name. After an error, what was extracted stays.
pub fn extract(tar: impl Read, target: &Root, options: &ExtractOptions) -> Result<()> {
    extract_with(tar, target, options, &mut |_| Ok(true))
}

/// [`extract`] of those entries that `admit` admits, as it changes them. It sees paths as below the folder, and
/// hardlinks of what it refused fail.
pub fn extract_with(
    tar: impl Read,
    target: &Root,
    options: &ExtractOptions,
    admit: &mut dyn FnMut(&mut Entry) -> Result<bool>,
) -> Result<()> {
    let folder = target.canonical_dir(&options.folder)?;
    let mut unpacker = Unpacker::new(target, Rules { is_layer: false, chown: options.chown });
    let mut reader = Reader::new(tar).accept_sparse();
    while let Some(mut entry) = reader.next_entry()? {
        entry.path = checked_path(&entry.path)?;
        if !admit(&mut entry)? {
            continue;
        }
        let path = entry.path.clone();
        // Without an entry for the archive's root: that folder belongs to the target.
        if path == Path::new("") && entry.kind == EntryKind::Directory {
            continue;
        }
        if let EntryKind::Hardlink { target } = &mut entry.kind {
            *target = folder.join(checked_path(target)?);
        }
        unpacker.unpack(&folder.join(path), &entry, &mut reader)?;
    }
    unpacker.finish()?;
    reader.finish()?;
    Ok(())
}
