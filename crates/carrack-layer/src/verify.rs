//! A folder is compared with the layer that was applied to it: has a disk, or somebody's hand, changed it since?
//!
//! Invariant: nothing is written, and what is kept in memory is what differs, not what is there.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::rooted::{FileType, Place, Root};

use crate::path::{Meaning, checked_path};
use crate::tar::{Entry, EntryKind, Reader};
use crate::{Error, Result};

/// More differences than this tell nothing new.
const MAX_DIFFERENCES: usize = 1000;

/// One name that is not as the layer has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path below the folder.
    pub path: PathBuf,
    /// What was expected and what is there.
    pub reason: String,
}

/// Compares `folder`, which [`apply`](crate::apply) has filled from the same tar, with that tar: kind, owner, mode and
/// content of each entry. Times and attributes are not compared.
pub fn verify(tar: impl Read, folder: &Root) -> Result<Vec<Difference>> {
    let mut reader = Reader::new(tar);
    // A tar may have several entries of one name, of which the last one counts.
    let mut differences: BTreeMap<PathBuf, String> = BTreeMap::new();
    while let Some(entry) = reader.next_entry()? {
        let path = checked_path(&entry.path)?;
        if !matches!(Meaning::of(&path)?, Meaning::Entry) {
            continue;
        }
        if entry.kind != EntryKind::Directory {
            differences.retain(|known, _| !known.starts_with(&path));
        }
        differences.remove(&path);
        if let Some(reason) = difference(folder, &path, &entry, &mut reader)? {
            differences.insert(path, reason);
        }
        if differences.len() > MAX_DIFFERENCES {
            break;
        }
    }
    Ok(differences.into_iter().map(|(path, reason)| Difference { path, reason }).collect())
}

fn difference(
    root: &Root,
    path: &Path,
    entry: &Entry,
    reader: &mut Reader<impl BufRead>,
) -> Result<Option<String>> {
    // A parent that is no folder any more is no failure of the comparison.
    let Ok(place) = root.at(path) else { return Ok(Some("its folder is not there".to_owned())) };
    let Some(metadata) = place.metadata()? else { return Ok(Some("it is not there".to_owned())) };
    let expected = match &entry.kind {
        // Its file was an entry before, and has been compared with that.
        EntryKind::Hardlink { .. } => return Ok(None),
        EntryKind::File => FileType::RegularFile,
        EntryKind::Directory => FileType::Directory,
        EntryKind::Symlink { .. } => FileType::Symlink,
        EntryKind::CharDevice { .. } => FileType::CharacterDevice,
        EntryKind::BlockDevice { .. } => FileType::BlockDevice,
        EntryKind::Fifo => FileType::Fifo,
    };
    if metadata.kind != expected {
        return Ok(Some(format!("expected {expected:?}, got {:?}", metadata.kind)));
    }
    if (metadata.uid, metadata.gid) != (entry.uid, entry.gid) {
        let (got, expected) = ((metadata.uid, metadata.gid), (entry.uid, entry.gid));
        return Ok(Some(format!("expected the owner {expected:?}, got {got:?}")));
    }
    if expected != FileType::Symlink && metadata.mode != entry.mode {
        return Ok(Some(format!("expected the mode {:o}, got {:o}", entry.mode, metadata.mode)));
    }
    match &entry.kind {
        EntryKind::Symlink { target } if place.read_link()? != *target => {
            Ok(Some("the link leads elsewhere".to_owned()))
        }
        EntryKind::File if metadata.size_bytes != entry.size_bytes => {
            Ok(Some(format!("expected {} bytes, got {}", entry.size_bytes, metadata.size_bytes)))
        }
        EntryKind::File => compare_content(&place, reader),
        _ => Ok(None),
    }
}

fn compare_content(place: &Place<'_>, reader: &mut Reader<impl BufRead>) -> Result<Option<String>> {
    let mut file = place.open_file()?;
    let mut buffer = Vec::new();
    let mut offset = 0;
    loop {
        let chunk = reader.next_chunk()?;
        if chunk.is_empty() {
            return Ok(None);
        }
        buffer.resize(chunk.len(), 0);
        file.read_exact(&mut buffer).during("read", place.path()).map_err(Error::from)?;
        if buffer != chunk {
            return Ok(Some(format!("other content from byte {offset} on")));
        }
        offset += chunk.len() as u64;
    }
}
