//! Names of an archive: which are taken, and what they mean in a layer.
//!
//! Invariant: whoever reads a layer asks here, so that a layer means the same wherever it goes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::{Error, Result};

/// The kernel takes no longer path (`PATH_MAX` less the NUL).
const MAX_PATH_BYTES: usize = 4095;
const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// What AUFS kept for itself; layers of old may still have it.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";

/// What a name means to the layer format.
pub(crate) enum Meaning<'path> {
    /// A file, folder ... of this layer.
    Entry,
    /// The name is removed from lower layers.
    Whiteout(&'path OsStr),
    /// The folder hides those of lower layers.
    Opaque,
    /// Bookkeeping of AUFS.
    Nothing,
}

impl<'path> Meaning<'path> {
    pub fn of(path: &'path Path) -> Result<Self> {
        // Nearly all paths have no mark anywhere.
        if !path.as_os_str().as_bytes().windows(WHITEOUT_PREFIX.len()).any(|part| part == WHITEOUT_PREFIX) {
            return Ok(Self::Entry);
        }
        let folders = path.parent().unwrap_or(Path::new(""));
        for folder in folders {
            if folder.as_bytes().starts_with(AUFS_PREFIX) {
                return Ok(Self::Nothing);
            }
            if folder.as_bytes().starts_with(WHITEOUT_PREFIX) {
                return Err(refused(path, "an entry below a whiteout"));
            }
        }
        let name = path.file_name().unwrap_or_default().as_bytes();
        let Some(removed) = name.strip_prefix(WHITEOUT_PREFIX) else { return Ok(Self::Entry) };
        match removed {
            _ if name == OPAQUE_WHITEOUT => Ok(Self::Opaque),
            _ if name.starts_with(AUFS_PREFIX) => Ok(Self::Nothing),
            b"" | b"." | b".." => Err(refused(path, "a whiteout of no name")),
            removed => Ok(Self::Whiteout(OsStr::from_bytes(removed))),
        }
    }
}

/// A path of an archive as one below its root: without `/` and `.`; one with `..` is refused.
pub(crate) fn checked_path(path: &Path) -> Result<PathBuf> {
    let checked = match plain(path) {
        Some(path) => path.to_owned(),
        None => collected(path)?,
    };
    match checked.as_os_str().as_bytes() {
        bytes if bytes.len() > MAX_PATH_BYTES => {
            let start = PathBuf::from(OsStr::from_bytes(&bytes[..80]));
            Err(refused(&start, format!("a path of {} bytes, more than {MAX_PATH_BYTES}", bytes.len())))
        }
        bytes if bytes.contains(&0) => Err(refused(path, "the path has a NUL byte")),
        _ => Ok(checked),
    }
}

/// The path, where nothing but a first `./` has to go: that is how nearly all are written.
fn plain(path: &Path) -> Option<&Path> {
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
    let is_plain = bytes.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."));
    is_plain.then(|| Path::new(OsStr::from_bytes(bytes)))
}

fn collected(path: &Path) -> Result<PathBuf> {
    let mut collected = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => collected.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => return Err(refused(path, "the path has `..`")),
        }
    }
    Ok(collected)
}

pub(crate) fn refused(path: &Path, reason: impl Into<String>) -> Error {
    Error::Refused { path: path.to_owned(), reason: reason.into() }
}

/// The names of a path and its `..`, the first one last: a stack for whoever resolves it.
pub(crate) fn reversed(path: &Path) -> Vec<Vec<u8>> {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.as_bytes().to_vec()),
        Component::ParentDir => Some(b"..".to_vec()),
        _ => None,
    });
    names.collect()
}
