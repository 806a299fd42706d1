//! A tar whose files can be opened by name, in any order and from several threads.
//!
//! Invariant: names are resolved within the archive only, and a name means one file: an archive that holds two files
//! of one name is refused, because readers disagree on which one counts.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use carrack_layer::compression::{self, Compression};
use carrack_layer::tar::{EntryKind, Reader};
use carrack_sys::IoContext;

use super::files::{Files, Opened};
use super::staged::temporary_name;
use crate::{Error, Result};

const KIND: &str = "archive";
const BLOCK_BYTES: u64 = 512;
const MAX_ENTRIES: usize = 1 << 16;
/// Old `docker save` puts layers that are equal as links to one of them; a link to a link is rare.
const MAX_LINKS: usize = 8;

/// An uncompressed tar with an index of its files.
pub(super) struct Archive {
    file: Arc<File>,
    path: PathBuf,
    entries: HashMap<String, Place>,
}

enum Place {
    Data { offset: u64, size_bytes: u64 },
    Link { target: String },
}

impl Archive {
    /// Opens an archive, compressed or not. What cannot be read in any order is first written to a nameless file in
    /// `scratch`: compressed archives and pipes.
    pub fn open(path: &Path, scratch: &Path) -> Result<Self> {
        let file = File::open(path).during("open", path)?;
        Self::from_file(file, path, scratch)
    }

    /// Reads an archive from an open file or pipe; `path` is for messages.
    pub fn from_file(file: File, path: &Path, scratch: &Path) -> Result<Self> {
        let mut start = [0; 16];
        let is_seekable = file.metadata().during("look up", path)?.is_file();
        let count = if is_seekable { file.read_at(&mut start, 0).during("read", path)? } else { 0 };
        let file = match is_seekable && Compression::detect(&start[..count]) == Compression::None {
            true => file,
            false => spool(file, path, scratch)?,
        };
        let length = file.metadata().during("look up", path)?.len();
        let mut archive = Self { file: Arc::new(file), path: path.to_owned(), entries: HashMap::new() };
        archive.index(length)?;
        Ok(archive)
    }

    /// Whether the archive has a file of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    fn index(&mut self, length: u64) -> Result<()> {
        let position = Cell::new(0);
        for _ in 0..=MAX_ENTRIES {
            let mut reader = Reader::new(Blocks { file: &self.file, position: &position });
            let entry = reader.next_entry().map_err(|error| self.refuse(error.to_string()))?;
            let Some(entry) = entry else { return Ok(()) };
            let offset = position.get();
            let end = offset.saturating_add(entry.size_bytes);
            if end > length {
                return Err(self.refuse(format!("it ends within {}", entry.path.display())));
            }
            position.set(end.next_multiple_of(BLOCK_BYTES));
            self.add(&entry.path, entry.kind, offset, entry.size_bytes)?;
        }
        Err(self.refuse(format!("expected at most {MAX_ENTRIES} entries")))
    }

    fn add(&mut self, path: &Path, kind: EntryKind, offset: u64, size_bytes: u64) -> Result<()> {
        // Names that lead out of the archive or are not UTF-8 are none that a manifest could ask for.
        let Some(name) = normal(path) else { return Ok(()) };
        let place = match kind {
            EntryKind::File => Place::Data { offset, size_bytes },
            EntryKind::Hardlink { target } => match normal(&target) {
                Some(target) => Place::Link { target },
                None => return Ok(()),
            },
            EntryKind::Symlink { target } => match normal(&path.with_file_name("").join(target)) {
                Some(target) => Place::Link { target },
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        match self.entries.insert(name, place) {
            None => Ok(()),
            Some(_) => Err(self.refuse(format!("it has two files named {}", path.display()))),
        }
    }

    fn refuse(&self, reason: String) -> Error {
        Error::Format { kind: KIND, path: self.path.clone(), reason }
    }
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

/// `./a/../b` becomes `b`; `None` when it leads out, or names nothing.
fn normal(path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => drop(parts.pop()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    if parts.is_empty() { None } else { Some(parts.join("/")) }
}

impl Files for Archive {
    fn open(&self, name: &str) -> Result<Option<Opened>> {
        let mut name = normal(Path::new(name));
        for _ in 0..=MAX_LINKS {
            let place = name.as_ref().and_then(|name| self.entries.get(name));
            match place {
                None => return Ok(None),
                Some(Place::Link { target }) => name = Some(target.clone()),
                Some(Place::Data { offset, size_bytes }) => {
                    let (offset, left) = (*offset, *size_bytes);
                    let section = Section { file: Arc::clone(&self.file), offset, left };
                    return Ok(Some(Opened { size_bytes: left, reader: Box::new(section) }));
                }
            }
        }
        Err(self.refuse(format!("more than {MAX_LINKS} links lead to one file")))
    }

    fn path(&self) -> &Path {
        &self.path
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
