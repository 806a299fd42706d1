//! A tar whose files can be opened by name, in any order and from several threads.
//!
//! Invariant: data are read where they are, after the whole archive has been looked through.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use carrack_layer::compression::{self, Compression};
use carrack_layer::tar::Reader;
use carrack_sys::IoContext;

use super::files::{Files, Opened};
use super::names::Names;
use super::staged::temporary_name;
use crate::Result;

const BLOCK_BYTES: u64 = 512;

/// An uncompressed tar with an index of its files.
pub(super) struct Archive {
    file: Arc<File>,
    names: Names<Place>,
}

/// Where the data of a file are.
struct Place {
    offset: u64,
    size_bytes: u64,
}

impl Archive {
    /// Opens an archive, compressed or not. What cannot be read in any order is first written to a nameless file in
    /// `scratch`: compressed archives and pipes.
    pub fn open(path: &Path, scratch: &Path) -> Result<Self> {
        let file = File::open(path).during("open", path)?;
        match is_plain(&file, path)? {
            true => Self::of_plain(file, path),
            false => Self::of_plain(spool(file, path, scratch)?, path),
        }
    }

    /// Reads an archive from an open file that [`is_plain`]; `path` is for messages.
    pub fn of_plain(file: File, path: &Path) -> Result<Self> {
        let length = file.metadata().during("look up", path)?.len();
        let mut archive = Self { file: Arc::new(file), names: Names::new(path) };
        archive.index(length)?;
        Ok(archive)
    }

    /// Whether the archive has a file of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    fn index(&mut self, length: u64) -> Result<()> {
        let position = Cell::new(0);
        loop {
            let mut reader = Reader::new(Blocks { file: &self.file, position: &position });
            let entry = reader.next_entry().map_err(|error| self.names.refuse(error.to_string()))?;
            let Some(entry) = entry else { return Ok(()) };
            let offset = position.get();
            let end = offset.saturating_add(entry.size_bytes);
            if end > length {
                return Err(self.names.refuse(format!("it ends within {}", entry.path.display())));
            }
            position.set(end.next_multiple_of(BLOCK_BYTES));
            self.names.add(&entry.path, entry.kind, Place { offset, size_bytes: entry.size_bytes })?;
        }
    }
}

/// Whether a file can be read in any order: a regular file that is not compressed.
pub(super) fn is_plain(file: &File, path: &Path) -> Result<bool> {
    if !file.metadata().during("look up", path)?.is_file() {
        return Ok(false);
    }
    let mut start = [0; 16];
    let count = file.read_at(&mut start, 0).during("read", path)?;
    Ok(Compression::detect(&start[..count]) == Compression::None)
}

/// Writes the uncompressed bytes of `source` to a file that has no name any more.
fn spool(source: File, path: &Path, scratch: &Path) -> Result<File> {
    let temporary = temporary_name(scratch);
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true).mode(0o600);
    let mut file = options.open(&temporary).during("create", &temporary)?;
    fs::remove_file(&temporary).during("remove", &temporary)?;
    let (_, mut tar) = compression::auto(source).during("read", path)?;
    io::copy(&mut tar, &mut file).during("uncompress", path)?;
    file.seek(SeekFrom::Start(0)).during("seek in", &temporary)?;
    Ok(file)
}

impl Files for Archive {
    fn open(&self, name: &str) -> Result<Option<Opened>> {
        let Some(Place { offset, size_bytes }) = self.names.find(name)? else { return Ok(None) };
        let section = Section { file: Arc::clone(&self.file), offset: *offset, left: *size_bytes };
        Ok(Some(Opened { size_bytes: *size_bytes, reader: Box::new(section) }))
    }

    fn path(&self) -> &Path {
        self.names.path()
    }
}

/// Gives out one tar block a call. The tar reader asks for no more than it needs, so that after a header `position`
/// is where the data begin, which are then jumped over instead of read.
struct Blocks<'a> {
    file: &'a File,
    position: &'a Cell<u64>,
}

impl Read for Blocks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(BLOCK_BYTES as usize);
        let count = self.file.read_at(&mut buffer[..length], self.position.get())?;
        self.position.set(self.position.get() + count as u64);
        Ok(count)
    }
}

/// A part of a file, read by position: sections of one file do not disturb each other.
struct Section {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..length], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
