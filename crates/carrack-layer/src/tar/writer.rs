//! Writes archives whose bytes depend on the entries only.
//!
//! Invariant: a header is plain ustar where its fields have room, else a PAX header with sorted records precedes it.

use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{BLOCK_BYTES, Entry, EntryKind};
use crate::{Error, Result};

const BUFFER_BYTES: usize = 128 * 1024;
const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;

/// A streaming writer of tar archives.
pub struct Writer<W: Write> {
    out: BufWriter<W>,
}

impl<W: Write> Writer<W> {
    /// Writes an archive to `inner`, which needs no buffering.
    pub fn new(inner: W) -> Self {
        Self { out: BufWriter::with_capacity(BUFFER_BYTES, inner) }
    }

    /// Writes an entry and its data; `data` must give exactly `entry.size_bytes`.
    pub fn append(&mut self, entry: &Entry, data: impl Read) -> Result<()> {
        self.begin(entry)?;
        let copied = io::copy(&mut data.take(entry.size_bytes), &mut self.out);
        self.end(entry, copied.map_err(|source| Error::Write { source })?)
    }

    /// Writes an entry whose data `copy` puts straight to the stream below the buffer, returning how many they were:
    /// the kernel can copy from file to file.
    pub fn append_with(&mut self, entry: &Entry, copy: impl FnOnce(&mut W) -> io::Result<u64>) -> Result<()> {
        self.begin(entry)?;
        let copied = self.out.flush().and_then(|()| copy(self.out.get_mut()));
        self.end(entry, copied.map_err(|source| Error::Write { source })?)
    }

    fn begin(&mut self, entry: &Entry) -> Result<()> {
        let records = pax_records(entry);
        if !records.is_empty() {
            let header = pax_header(entry, records.len() as u64);
            self.write(&header)?;
            self.write(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.write(&header_of(entry))
    }

    fn end(&mut self, entry: &Entry, copied: u64) -> Result<()> {
        if copied != entry.size_bytes {
            let reason =
                format!("it became shorter while it was read: expected {}, got {copied}", entry.size_bytes);
            return Err(Error::Refused { path: entry.path.clone(), reason });
        }
        self.pad(entry.size_bytes)
    }

    /// Writes the end of the archive and returns the stream.
    pub fn finish(mut self) -> Result<W> {
        self.write(&[0; 2 * BLOCK_BYTES])?;
        self.out.into_inner().map_err(|error| Error::Write { source: error.into_error() })
    }

    fn pad(&mut self, length: u64) -> Result<()> {
        let padding = length.next_multiple_of(BLOCK_BYTES as u64) - length;
        self.write(&[0; BLOCK_BYTES][..usize::try_from(padding).unwrap_or_default()])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|source| Error::Write { source })
    }
}

/// The name as it is stored: a folder's ends with `/`. An empty one, the root's, stays: `/` would be another name.
fn stored_name(entry: &Entry) -> Vec<u8> {
    let mut name = entry.path.as_os_str().as_bytes().to_vec();
    if entry.kind == EntryKind::Directory && !name.is_empty() && !name.ends_with(b"/") {
        name.push(b'/');
    }
    name
}

fn link_target(entry: &Entry) -> &Path {
    match &entry.kind {
        EntryKind::Symlink { target } | EntryKind::Hardlink { target } => target,
        _ => Path::new(""),
    }
}

/// Splits a name into prefix and name at a `/`, where both then fit their fields.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME_BYTES {
        return Some((&[], name));
    }
    let fits = |slash: usize| slash <= PREFIX_BYTES && (1..=NAME_BYTES).contains(&(name.len() - slash - 1));
    let slash = (1..name.len()).find(|index| name[*index] == b'/' && fits(*index))?;
    Some((&name[..slash], &name[slash + 1..]))
}

fn pax_records(entry: &Entry) -> Vec<u8> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |key: &str, value: Vec<u8>| records.push((key.into(), value));
    let name = stored_name(entry);
    if split_name(&name).is_none() {
        add("path", name);
    }
    let target = link_target(entry).as_os_str().as_bytes();
    if target.len() > NAME_BYTES {
        add("linkpath", target.to_vec());
    }
    for (key, value) in [("uid", entry.uid), ("gid", entry.gid)] {
        if octal(value.into(), 8).is_none() {
            add(key, value.to_string().into());
        }
    }
    if octal(entry.size_bytes, 12).is_none() {
        add("size", entry.size_bytes.to_string().into());
    }
    let (seconds, nanoseconds) = entry.mtime;
    if nanoseconds != 0 || u64::try_from(seconds).ok().and_then(|seconds| octal(seconds, 12)).is_none() {
        add("mtime", decimal_time(seconds, nanoseconds).into());
    }
    for (name, value) in &entry.xattrs {
        records.push(([b"SCHILY.xattr.", name.as_bytes()].concat(), value.clone()));
    }
    records.sort();
    records.iter().flat_map(|(key, value)| record(key, value)).collect()
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts itself too.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn decimal_time(seconds: i64, nanoseconds: u32) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let (sign, total) = if total < 0 { ("-", -total) } else { ("", total) };
    let text = format!("{sign}{}.{:09}", total / 1_000_000_000, total % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn pax_header(entry: &Entry, size_bytes: u64) -> [u8; BLOCK_BYTES] {
    let name = entry.path.file_name().unwrap_or_default().as_bytes();
    let mut path = b"PaxHeaders/".to_vec();
    path.extend_from_slice(&name[..name.len().min(NAME_BYTES - path.len())]);
    block(b'x', (&[], &path), |block| put_number(block, 124, 12, size_bytes))
}

fn header_of(entry: &Entry) -> [u8; BLOCK_BYTES] {
    let (flag, device) = match entry.kind {
        EntryKind::File => (b'0', None),
        EntryKind::Hardlink { .. } => (b'1', None),
        EntryKind::Symlink { .. } => (b'2', None),
        EntryKind::CharDevice { major, minor } => (b'3', Some((major, minor))),
        EntryKind::BlockDevice { major, minor } => (b'4', Some((major, minor))),
        EntryKind::Directory => (b'5', None),
        EntryKind::Fifo => (b'6', None),
    };
    let name = stored_name(entry);
    let split = split_name(&name).unwrap_or_else(|| (&[], &name[..NAME_BYTES]));
    block(flag, split, |block| {
        put_number(block, 100, 8, entry.mode.into());
        put_number(block, 108, 8, entry.uid.into());
        put_number(block, 116, 8, entry.gid.into());
        put_number(block, 124, 12, entry.size_bytes);
        put_number(block, 136, 12, u64::try_from(entry.mtime.0).unwrap_or_default());
        let target = link_target(entry).as_os_str().as_bytes();
        put(block, 157, &target[..target.len().min(NAME_BYTES)]);
        if let Some((major, minor)) = device {
            put_number(block, 329, 8, major.into());
            put_number(block, 337, 8, minor.into());
        }
    })
}

fn block(
    flag: u8,
    (prefix, name): (&[u8], &[u8]),
    fill: impl FnOnce(&mut [u8; BLOCK_BYTES]),
) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    put(&mut block, 0, name);
    for (start, length) in [(100, 8), (108, 8), (116, 8), (124, 12), (136, 12)] {
        put_number(&mut block, start, length, 0);
    }
    block[156] = flag;
    put(&mut block, 257, b"ustar\x0000");
    put(&mut block, 345, prefix);
    fill(&mut block);
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().copied().map(u64::from).sum();
    put(&mut block, 148, format!("{sum:06o}\0 ").as_bytes());
    block
}

fn put(block: &mut [u8; BLOCK_BYTES], start: usize, bytes: &[u8]) {
    block[start..start + bytes.len()].copy_from_slice(bytes);
}

/// A number that does not fit is 0 in the header; a PAX record has it.
fn put_number(block: &mut [u8; BLOCK_BYTES], start: usize, length: usize, value: u64) {
    let text = octal(value, length).unwrap_or_else(|| "0".repeat(length - 1));
    put(block, start, text.as_bytes());
}

/// The value in octal with one byte left for the NUL, if it fits.
fn octal(value: u64, length: usize) -> Option<String> {
    let text = format!("{value:0width$o}", width = length - 1);
    (text.len() < length).then_some(text)
}
