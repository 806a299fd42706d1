//! A layer becomes an index: its names and metadata as an EROFS image, whose files lie in the tar.
//!
//! Invariant: what [`apply`](crate::apply) would unpack is what the index shows, in one pass over the stream. It can be
//! mounted alone, with the tar as its device; whiteouts are character devices 0:0, and opaque folders have
//! [`OPAQUE_XATTR`](crate::OPAQUE_XATTR), so that overlayfs can stack it.

use std::cell::RefCell;
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use carrack_erofs::{Limits, Scratch};
use carrack_oci::Hasher;
use carrack_sys::tree::Usage;

use crate::bounded::{Bounded, too_large};
use crate::path::{Meaning, checked_path};
use crate::scratch::anonymous_file;
use crate::tar::{EntryKind, Reader};
use crate::{Error, Result};

mod names;

use names::Names;

/// Bounds of an index, and where it may write.
#[derive(Clone, Copy, Debug)]
pub struct IndexOptions<'a> {
    /// The most bytes that the uncompressed tar may have.
    pub max_size_bytes: u64,
    /// The most entries and names.
    pub limits: Limits,
    /// A folder for a file without a name, for what does not fit into memory.
    pub scratch: &'a Path,
    /// Where it is told where large files are in the tar, before their data are read.
    pub large_files: Option<&'a RefCell<Vec<LargeFile>>>,
}

/// A file whose data are worth to be looked for in other layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargeFile {
    /// Equal paths and lengths have equal keys.
    pub key: u64,
    /// Where its data are in the tar, in bytes.
    pub offset: u64,
    /// Its length.
    pub size_bytes: u64,
}

impl LargeFile {
    /// No more wait to be looked at.
    const MAX_WAITING: usize = 1 << 16;
    /// Smaller files have hardly a whole page that need not be written.
    pub const MIN_BYTES: u64 = 8192;

    fn new(path: &Path, offset: u64, size_bytes: u64) -> Self {
        let mut hasher = Hasher::sha256();
        hasher.update(&size_bytes.to_le_bytes());
        hasher.update(path.as_os_str().as_bytes());
        let digest = hasher.finish();
        let key = u64::from_str_radix(&digest.hex()[..16], 16).expect("a digest has hexadecimal digits");
        Self { key, offset, size_bytes }
    }
}

impl<'a> IndexOptions<'a> {
    /// The default bounds.
    pub fn new(scratch: &'a Path) -> Self {
        Self { max_size_bytes: u64::MAX, limits: Limits::default(), scratch, large_files: None }
    }
}

/// What was indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// The length of the uncompressed tar.
    pub tar_bytes: u64,
    /// The length of the index.
    pub index_bytes: u64,
    /// The length of all files and the number of inodes that the layer brought.
    pub usage: Usage,
    /// The layer hides all that is below it.
    pub is_opaque: bool,
    /// The layer has hardlinks to files of lower layers: alone or stacked these are symbolic links, and only
    /// [`merge`](crate::merge()) makes them what they are.
    pub needs_below: bool,
    /// The layer removes names of lower layers; at the bottom of a stack, the marks of that would be seen.
    pub has_whiteouts: bool,
    /// How many folders the layer needs and does not describe; the root may be one. Stacked, they would hide the
    /// metadata of those below; merged, they show it.
    pub implicit_dirs: u64,
    /// How many entries the tar has.
    pub entries: u64,
}

/// Indexes an uncompressed tar into `out`, an empty file; reads it to its end. Nothing is synced.
pub fn index(
    tar: impl BufRead,
    out: &mut (impl Write + Seek),
    options: &IndexOptions<'_>,
) -> Result<Indexed> {
    let mut names = Names::new(options.limits, scratch(options.scratch))?;
    let mut reader = bounded(tar, options);
    read_entries(&mut reader, &mut names, options)
        .and_then(|entries| write(reader, names, out, options, entries))
        .map_err(|error| too_large(error, options.max_size_bytes))
}

/// The same, and `None` for a tar with more than the limits of `options`: it is read to its end too, but not indexed.
pub fn index_or_skim(
    tar: impl BufRead,
    out: &mut (impl Write + Seek),
    options: &IndexOptions<'_>,
) -> Result<Option<Indexed>> {
    let mut names = Names::new(options.limits, scratch(options.scratch))?;
    let mut reader = bounded(tar, options);
    let indexed = match read_entries(&mut reader, &mut names, options) {
        Err(Error::Index(carrack_erofs::Error::TooLarge { .. })) => {
            drop(names);
            skim(reader).map(|()| None)
        }
        entries => entries.and_then(|entries| write(reader, names, out, options, entries)).map(Some),
    };
    indexed.map_err(|error| too_large(error, options.max_size_bytes))
}

/// Indexes a tar that is a file already, without reading the data in it.
pub fn index_file(
    mut tar: impl Read + Seek,
    out: &mut (impl Write + Seek),
    options: &IndexOptions<'_>,
) -> Result<Indexed> {
    let length = tar.seek(SeekFrom::End(0)).map_err(|source| Error::Read { source })?;
    tar.rewind().map_err(|source| Error::Read { source })?;
    if length > options.max_size_bytes {
        return Err(Error::TooLarge { limit_bytes: options.max_size_bytes });
    }
    let mut names = Names::new(options.limits, scratch(options.scratch))?;
    let mut reader = Reader::seekable(tar, length).accept_sparse();
    let entries = read_entries(&mut reader, &mut names, options)?;
    reader.finish()?;
    names.write(out, length, entries)
}

fn bounded<R: BufRead>(tar: R, options: &IndexOptions<'_>) -> Reader<Bounded<R>> {
    Reader::buffered(Bounded::new(tar, options.max_size_bytes)).accept_sparse()
}

fn write(
    reader: Reader<Bounded<impl BufRead>>,
    names: Names<'_>,
    out: &mut (impl Write + Seek),
    options: &IndexOptions<'_>,
    entries: u64,
) -> Result<Indexed> {
    let left_bytes = reader.finish()?.left_bytes();
    names.write(out, options.max_size_bytes - left_bytes, entries)
}

/// Reads to the end and keeps nothing: what is no archive fails where that is seen, however long it is.
fn skim(mut reader: Reader<impl BufRead>) -> Result<()> {
    while reader.next_entry()?.is_some() {}
    reader.finish().map(drop)
}

fn scratch(folder: &Path) -> Scratch<'_> {
    Scratch::new(move || anonymous_file(folder))
}

fn read_entries(
    reader: &mut Reader<impl BufRead>,
    names: &mut Names<'_>,
    options: &IndexOptions<'_>,
) -> Result<u64> {
    let mut entries = 0;
    while let Some(entry) = reader.next_entry()? {
        entries += 1;
        let path = checked_path(&entry.path)?;
        let data = reader.data();
        let is_large = entry.kind == EntryKind::File && entry.size_bytes >= LargeFile::MIN_BYTES;
        if let Some(files) = options.large_files.filter(|_| is_large && data.segments.is_none()) {
            let mut files = files.borrow_mut();
            if files.len() < LargeFile::MAX_WAITING {
                files.push(LargeFile::new(&path, data.offset, entry.size_bytes));
            }
        }
        match Meaning::of(&path)? {
            Meaning::Entry => names.add(&path, &entry, data)?,
            Meaning::Whiteout(name) => names.white_out(&path, name)?,
            Meaning::Opaque => names.mark_parent_opaque(&path)?,
            Meaning::Nothing => {}
        }
    }
    Ok(entries)
}
