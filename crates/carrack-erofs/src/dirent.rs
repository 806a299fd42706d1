//! Blocks of folders: first the entries of 12 bytes, then their names without anything between.
//!
//! Invariant: the names of a folder are sorted as bytes, over all its blocks; `.` and `..` are among them.
//!
//! ```text
//! │ nid u64 │ where the name begins u16 │ kind u8 │ 0 │ ... │ name name name ... │ zeros to the end of the block
//! ```
//!
//! The first entry's name begins where the entries end, and thereby says how many there are.

use crate::inode::{u16_at, u64_at};
use crate::{BLOCK_BYTES, Error, Kind, Result};

pub(crate) const DIRENT_BYTES: usize = 12;
const BLOCK: usize = BLOCK_BYTES as usize;

/// Puts names into blocks, as many in each as fit.
#[derive(Default)]
pub(crate) struct Packer {
    entries: Vec<(u64, u8)>,
    names: Vec<u8>,
    ends: Vec<usize>,
}

impl Packer {
    /// Takes a name into the block, or says that it has no room.
    pub fn add(&mut self, name: &[u8], nid: u64, kind: Kind) -> bool {
        if self.used() + DIRENT_BYTES + name.len() > BLOCK {
            return false;
        }
        self.entries.push((nid, u8::try_from(kind.code()).unwrap_or_default()));
        self.names.extend_from_slice(name);
        self.ends.push(self.names.len());
        true
    }

    /// The bytes of the block that are used.
    pub fn used(&self) -> usize {
        self.entries.len() * DIRENT_BYTES + self.names.len()
    }

    /// The block, and an empty one in its place. Only the last block of a folder is shorter than a block.
    pub fn take(&mut self, block: &mut Vec<u8>) {
        block.clear();
        let mut name = self.entries.len() * DIRENT_BYTES;
        for ((nid, kind), end) in self.entries.iter().zip(&self.ends) {
            block.extend_from_slice(&nid.to_le_bytes());
            block.extend_from_slice(&u16::try_from(name).unwrap_or_default().to_le_bytes());
            block.extend_from_slice(&[*kind, 0]);
            name = self.entries.len() * DIRENT_BYTES + end;
        }
        block.extend_from_slice(&self.names);
        self.entries.clear();
        self.names.clear();
        self.ends.clear();
    }
}

/// How long a folder becomes: bytes of whole blocks, and of the last block.
#[derive(Default)]
pub(crate) struct Measure {
    pub full_bytes: u64,
    pub last_bytes: usize,
}

impl Measure {
    pub fn add(&mut self, name_length: usize) {
        if self.last_bytes + DIRENT_BYTES + name_length > BLOCK {
            self.full_bytes += BLOCK_BYTES;
            self.last_bytes = 0;
        }
        self.last_bytes += DIRENT_BYTES + name_length;
    }
}

/// An entry of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirent<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The number of the inode.
    pub nid: u64,
    /// What it is.
    pub kind: Kind,
}

/// The entries of a block; `offset` is where it is, for messages.
pub fn dirents(block: &[u8], offset: u64) -> impl Iterator<Item = Result<Dirent<'_>>> {
    let damaged = move |reason| Error::Damaged { offset, reason };
    let entries_end = usize::from(u16_at(block, 8));
    let count = entries_end / DIRENT_BYTES;
    let is_right = entries_end.is_multiple_of(DIRENT_BYTES) && entries_end <= block.len() && count > 0;
    let last_name_end = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut name_start = entries_end;
    (0..if is_right { count } else { 1 }).map(move |index| {
        if !is_right {
            return Err(damaged("the entries of a folder do not fit its block"));
        }
        let entry = &block[index * DIRENT_BYTES..];
        let name_end = match index + 1 < count {
            true => usize::from(u16_at(entry, DIRENT_BYTES + 8)),
            false => last_name_end,
        };
        let start = std::mem::replace(&mut name_start, name_end);
        let name = block.get(start..name_end).filter(|name| {
            (1..=255).contains(&name.len()) && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
        });
        let kind = Kind::from_code(entry[10].into());
        match (name, kind) {
            (Some(name), Some(kind)) => Ok(Dirent { name, nid: u64_at(entry, 0), kind }),
            _ => Err(damaged("an entry of a folder without a valid name or kind")),
        }
    })
}

/// Pads a block that is not the last one of its folder.
pub(crate) fn pad(block: &mut Vec<u8>) {
    block.resize(BLOCK, 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inode::put;

    #[test]
    fn what_is_packed_is_read_again() {
        let long = [b'n'; 255];
        let names: [&[u8]; 4] = [b".", b"..", b"a", &long];
        let (mut packer, mut measure) = (Packer::default(), Measure::default());
        for (nid, name) in names.iter().enumerate() {
            assert!(packer.add(name, nid as u64 * 32, Kind::Folder));
            measure.add(name.len());
        }
        assert!(!packer.add(&long, 1, Kind::File));
        assert_eq!(packer.used(), measure.last_bytes);
        let mut block = Vec::new();
        packer.take(&mut block);
        for padded in [false, true] {
            if padded {
                pad(&mut block);
            }
            let read: Vec<_> = dirents(&block, 0).map(Result::unwrap).collect();
            assert_eq!(read.iter().map(|entry| entry.name).collect::<Vec<_>>(), names);
            assert_eq!(read[3].nid, 96);
        }
    }

    #[test]
    fn damaged_blocks_are_errors() {
        let mut packer = Packer::default();
        packer.add(b"one", 1, Kind::File);
        packer.add(b"two", 2, Kind::File);
        let mut block = Vec::new();
        packer.take(&mut block);
        for index in 0..block.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = block.clone();
                put(&mut damaged, index, &[value]);
                for entry in dirents(&damaged, 0).take(1000) {
                    let _ = entry.map(|entry| entry.name.len());
                }
            }
        }
        assert!(dirents(&[], 0).next().unwrap().is_err());
    }
}
