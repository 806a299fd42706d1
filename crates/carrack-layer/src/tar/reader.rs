//! Reads an archive from a stream, entry by entry.
//!
//! Invariant: memory is bounded by the buffer of the stream and [`MAX_EXTENSION_BYTES`] for each kind of extension header,
//! and after the last entry the stream can be read to its end ([`Reader::finish`]), as its digest needs. Data that nobody
//! asks for are not copied.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::header::Header;
use super::pax::Records;
use super::sparse::{DataMap, Map, add_gnu};
use super::{BLOCK_BYTES, Entry, EntryKind, Segment};
use crate::{Error, Result};

const BUFFER_BYTES: usize = 128 * 1024;
/// What is read at once where data can be passed over: a header, and usually the whole of small files after it.
const SEEKING_BUFFER_BYTES: usize = 8 * 1024;
/// The longest extended header or long name that is read into memory.
const MAX_EXTENSION_BYTES: u64 = 1024 * 1024;
/// The most that may follow the end of an archive; records of 10 KiB are usual, and of 1 MiB known.
const MAX_TRAILING_BYTES: u64 = 64 << 20;
/// The largest number that fits the size field in octal: above it, writers put 0 or this value there.
const MAX_OCTAL_SIZE: u64 = 0o777_7777_7777;

/// A streaming reader of tar archives. As a [`Read`], it gives the data of the current entry.
pub struct Reader<R> {
    inner: R,
    /// Bytes of the buffer of `inner` that were given out as a chunk, and are passed by the next call.
    given: usize,
    /// Bytes of the archive that were read, those that were given out included.
    offset: u64,
    /// Data of the current entry not given out yet, and the padding after them.
    data_left: u64,
    padding: u64,
    /// Where the current header began, for messages.
    header_offset: u64,
    is_done: bool,
    accepts_sparse: bool,
    /// The parts of the current entry that have data, if it is sparse.
    segments: Option<Vec<Segment>>,
    seeking: Option<Seeking<R>>,
}

/// How data are passed over in a source of known length.
struct Seeking<R> {
    length: u64,
    skip: fn(&mut R, i64) -> io::Result<()>,
}

/// Where the data of the current entry are.
#[derive(Clone, Copy, Debug)]
pub struct Data<'r> {
    /// Where they begin in the archive.
    pub offset: u64,
    /// The parts of a sparse file that have data, which follow each other in the archive; `None`: all of it.
    pub segments: Option<&'r [Segment]>,
}

/// What precedes a header and belongs to its entry.
#[derive(Default)]
struct Extensions {
    long_path: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
    pax: Option<Records>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.long_path.is_none() && self.long_target.is_none() && self.pax.is_none()
    }
}

impl<R: Read> Reader<BufReader<R>> {
    /// Reads an uncompressed archive from `inner`, which needs no buffering.
    pub fn new(inner: R) -> Self {
        Self::buffered(BufReader::with_capacity(BUFFER_BYTES, inner))
    }

    /// Reads an archive of `length` bytes, from its beginning; data that nobody asks for are not read.
    pub fn seekable(inner: R, length: u64) -> Self
    where
        R: Seek,
    {
        let skip = BufReader::seek_relative;
        let inner = BufReader::with_capacity(SEEKING_BUFFER_BYTES, inner);
        Self { seeking: Some(Seeking { length, skip }), ..Self::buffered(inner) }
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads an uncompressed archive from the buffer of `inner`.
    pub fn buffered(inner: R) -> Self {
        Self {
            inner,
            given: 0,
            offset: 0,
            data_left: 0,
            padding: 0,
            header_offset: 0,
            is_done: false,
            accepts_sparse: false,
            segments: None,
            seeking: None,
        }
    }

    /// Takes sparse files, which are an error otherwise. The data of such an entry are only the parts that
    /// [`Reader::data`] names; its size is that of the whole file.
    pub fn accept_sparse(self) -> Self {
        Self { accepts_sparse: true, ..self }
    }

    /// Where the data of the current entry are; to be asked before any of them are read.
    pub fn data(&self) -> Data<'_> {
        Data { offset: self.offset, segments: self.segments.as_deref() }
    }

    /// The next entry; what is left of the current one's data is skipped. `None` at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip_data()?;
        self.segments = None;
        let mut extensions = Extensions::default();
        while let Some(block) = self.header_block()? {
            let header = Header::new(&block).map_err(|reason| self.format(reason))?;
            let flag = header.type_flag();
            if !matches!(flag, b'x' | b'g' | b'L' | b'K') {
                return self.entry(&header, extensions).map(Some);
            }
            let size_bytes = header.size_bytes().map_err(|reason| self.format(reason))?;
            let payload = self.extension(size_bytes)?;
            self.extend(&mut extensions, flag, payload)?;
        }
        match extensions.is_empty() {
            true => Ok(None),
            false => Err(Error::Truncated { offset: self.offset }),
        }
    }

    /// The next piece of the current entry's data; empty at their end.
    pub fn next_chunk(&mut self) -> Result<&[u8]> {
        if self.data_left == 0 {
            return Ok(&[]);
        }
        let buffered = self.fill()?;
        if buffered == 0 {
            return Err(Error::Truncated { offset: self.offset });
        }
        let length = buffered.min(usize::try_from(self.data_left).unwrap_or(usize::MAX));
        self.give(length);
        self.data_left -= length as u64;
        let chunk = self.inner.fill_buf().map_err(|source| Error::Read { source })?;
        Ok(&chunk[..length])
    }

    /// Reads what follows the end of the archive, to the end of the stream, and returns the stream. In a source of known
    /// length nothing is read, its length tells.
    ///
    /// Writers fill their last record with zeros; a few bytes of compressed ones could be more than any disk holds.
    pub fn finish(mut self) -> Result<R> {
        let end = self.offset;
        if let Some(Seeking { length, .. }) = self.seeking {
            self.check_trailing(length.saturating_sub(end))?;
            return Ok(self.inner);
        }
        loop {
            match self.fill()? {
                0 => return Ok(self.inner),
                count => self.give(count),
            }
            self.check_trailing(self.offset - end)?;
        }
    }

    fn check_trailing(&self, count: u64) -> Result<()> {
        match count > MAX_TRAILING_BYTES {
            true => {
                Err(self.format(format!("more than {MAX_TRAILING_BYTES} bytes follow the archive's end")))
            }
            false => Ok(()),
        }
    }

    fn extend(&self, extensions: &mut Extensions, flag: u8, payload: Vec<u8>) -> Result<()> {
        let occupied = match flag {
            b'g' => {
                Records::check_global(&payload).map_err(|reason| self.format(reason))?;
                false
            }
            b'x' => {
                let records = Records::parse(&payload).map_err(|reason| self.format(reason))?;
                extensions.pax.replace(records).is_some()
            }
            b'L' => extensions.long_path.replace(self.long_name(payload)?).is_some(),
            _ => extensions.long_target.replace(self.long_name(payload)?).is_some(),
        };
        if occupied { Err(self.format("two extended headers of one kind for one entry")) } else { Ok(()) }
    }

    fn long_name(&self, mut payload: Vec<u8>) -> Result<Vec<u8>> {
        let length = payload.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        payload.truncate(length);
        match payload.is_empty() || payload.contains(&0) {
            true => Err(self.format("invalid long name")),
            false => Ok(payload),
        }
    }

    fn entry(&mut self, header: &Header<'_>, mut extensions: Extensions) -> Result<Entry> {
        let sparse = extensions.pax.as_mut().and_then(|pax| pax.sparse.take());
        if (sparse.is_some() || header.type_flag() == b'S') && !self.accepts_sparse {
            return Err(self.format("sparse file"));
        }
        if let Some(name) = sparse.as_ref().and_then(|sparse| sparse.name.clone()) {
            extensions.pax.get_or_insert_default().path = Some(name);
        }
        let mut entry = Self::build(header, extensions).map_err(|reason| self.format(reason))?;
        self.expect_data(entry.size_bytes);
        match (header.type_flag(), sparse) {
            (b'S', None) => entry.size_bytes = self.gnu_map(header)?,
            (b'S', Some(_)) => return Err(self.format("a sparse file in two forms")),
            (_, Some(_)) if entry.kind != EntryKind::File => {
                return Err(self.format("a sparse file that is no file"));
            }
            (_, Some(sparse)) => entry.size_bytes = self.pax_map(sparse)?,
            _ => {}
        }
        Ok(entry)
    }

    fn expect_data(&mut self, size_bytes: u64) {
        self.data_left = size_bytes;
        self.padding = size_bytes.next_multiple_of(BLOCK_BYTES as u64) - size_bytes;
    }

    /// The map in GNU's old header and in the blocks that follow it; returns the length of the file.
    fn gnu_map(&mut self, header: &Header<'_>) -> Result<u64> {
        if !header.is_gnu() {
            return Err(self.format("a sparse file in a header that is not GNU's"));
        }
        let mut map = Map::default();
        let size_bytes = header.unsigned(483).map_err(|reason| self.format(reason))?;
        let mut is_extended = add_gnu(&mut map, header, false).map_err(|reason| self.format(reason))?;
        while is_extended {
            let block = self.block()?.ok_or(Error::Truncated { offset: self.offset })?;
            let extension = Header::unchecked(&block);
            is_extended = add_gnu(&mut map, &extension, true).map_err(|reason| self.format(reason))?;
        }
        self.use_map(map, size_bytes)
    }

    /// The map in PAX records, or at the beginning of the data; returns the length of the file.
    fn pax_map(&mut self, sparse: super::sparse::Records) -> Result<u64> {
        let size_bytes = sparse.size_bytes().map_err(|reason| self.format(reason))?;
        if !sparse.is_map_in_data().map_err(|reason| self.format(reason))? {
            let map = sparse.into_map().map_err(|reason| self.format(reason))?;
            return self.use_map(map, size_bytes);
        }
        let mut map = DataMap::default();
        loop {
            let left = self.data_left.checked_sub(BLOCK_BYTES as u64);
            self.data_left = left.ok_or_else(|| self.format("a sparse file that is shorter than its map"))?;
            let block = self.block()?.ok_or(Error::Truncated { offset: self.offset })?;
            if map.take(&block).map_err(|reason| self.format(reason))? {
                break;
            }
        }
        self.use_map(map.map, size_bytes)
    }

    fn use_map(&mut self, map: Map, size_bytes: u64) -> Result<u64> {
        let segments = map.finish(size_bytes, self.data_left).map_err(|reason| self.format(reason))?;
        self.segments = Some(segments);
        Ok(size_bytes)
    }

    fn build(header: &Header<'_>, extensions: Extensions) -> Result<Entry, String> {
        let pax = extensions.pax.unwrap_or_default();
        let path = pax.path.or(extensions.long_path).unwrap_or_else(|| header.path());
        let target =
            pax.link_target.or(extensions.long_target).unwrap_or_else(|| header.link_target().to_vec());
        let size_bytes = one_size(header.size_bytes()?, pax.size_bytes)?;
        let kind = kind(header, &path, target)?;
        if kind != EntryKind::File && size_bytes != 0 {
            return Err(format!("an entry without data that has size {size_bytes}"));
        }
        Ok(Entry {
            path: without_trailing_slash(path),
            kind,
            mode: header.mode()?,
            uid: owner(pax.uid.map_or_else(|| header.uid(), Ok)?)?,
            gid: owner(pax.gid.map_or_else(|| header.gid(), Ok)?)?,
            mtime: pax.mtime.map_or_else(|| header.mtime().map(|seconds| (seconds, 0)), Ok)?,
            size_bytes,
            xattrs: pax.xattrs,
        })
    }

    /// The next block that is not zero; `None` at the end, which is two zero blocks or the end of the stream.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>> {
        if self.is_done {
            return Ok(None);
        }
        self.header_offset = self.offset;
        let Some(block) = self.block()? else { return Ok(None) };
        if block != [0; BLOCK_BYTES] {
            return Ok(Some(block));
        }
        self.is_done = true;
        match self.block()? {
            Some(second) if second != [0; BLOCK_BYTES] => {
                Err(self.format("a single zero block among entries"))
            }
            _ => Ok(None),
        }
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>> {
        let (mut block, mut length, start) = ([0; BLOCK_BYTES], 0, self.offset);
        while length < BLOCK_BYTES {
            if self.fill()? == 0 {
                return if length == 0 { Ok(None) } else { Err(Error::Truncated { offset: start }) };
            }
            let buffered = self.inner.fill_buf().map_err(|source| Error::Read { source })?;
            let count = buffered.len().min(BLOCK_BYTES - length);
            block[length..length + count].copy_from_slice(&buffered[..count]);
            self.give(count);
            length += count;
        }
        Ok(Some(block))
    }

    /// The data of an extension header.
    fn extension(&mut self, size_bytes: u64) -> Result<Vec<u8>> {
        if size_bytes > MAX_EXTENSION_BYTES {
            let reason = format!("an extended header of {size_bytes} bytes, more than {MAX_EXTENSION_BYTES}");
            return Err(self.format(reason));
        }
        self.expect_data(size_bytes);
        let mut payload = Vec::new();
        loop {
            let chunk = self.next_chunk()?;
            if chunk.is_empty() {
                break;
            }
            payload.extend_from_slice(chunk);
        }
        self.skip_data()?;
        Ok(payload)
    }

    fn skip_data(&mut self) -> Result<()> {
        self.data_left += std::mem::take(&mut self.padding); // the sum fits: sizes are refused above 2^63
        if self.data_left > 0 {
            self.seek_over_data()?;
        }
        while self.data_left > 0 {
            self.next_chunk()?;
        }
        Ok(())
    }

    /// Passes over the data, where the source can do that.
    fn seek_over_data(&mut self) -> Result<()> {
        self.pass_given();
        let Some(Seeking { length, skip }) = &self.seeking else { return Ok(()) };
        let end = self.offset.checked_add(self.data_left).filter(|end| end <= length);
        self.offset = end.ok_or(Error::Truncated { offset: *length })?;
        let count = i64::try_from(std::mem::take(&mut self.data_left)).unwrap_or(i64::MAX);
        skip(&mut self.inner, count).map_err(|source| Error::Read { source })
    }

    /// Reads more when nothing is buffered; how many bytes are, 0 at the end of the stream.
    fn fill(&mut self) -> Result<usize> {
        self.pass_given();
        loop {
            match self.inner.fill_buf() {
                Ok(buffered) => return Ok(buffered.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { source }),
            }
        }
    }

    fn pass_given(&mut self) {
        self.inner.consume(std::mem::take(&mut self.given));
    }

    /// The next `count` bytes of the buffer are taken: they stay there until the next call.
    fn give(&mut self, count: usize) {
        self.given = count;
        self.offset += count as u64;
    }

    fn format(&self, reason: impl Into<String>) -> Error {
        Error::Format { offset: self.header_offset, reason: reason.into() }
    }
}

impl<R: BufRead> Read for Reader<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.data_left == 0 || target.is_empty() {
            return Ok(0);
        }
        if self.fill().map_err(io::Error::other)? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                Error::Truncated { offset: self.offset },
            ));
        }
        let left = usize::try_from(self.data_left).unwrap_or(usize::MAX);
        let buffered = self.inner.fill_buf()?;
        let length = target.len().min(buffered.len()).min(left);
        target[..length].copy_from_slice(&buffered[..length]);
        self.give(length);
        self.data_left -= length as u64;
        Ok(length)
    }
}

/// The size of an entry, when header and PAX records agree on it (CVE-2025-62518 is a reader that took the other one).
fn one_size(header: u64, pax: Option<u64>) -> Result<u64, String> {
    let size_bytes = match pax {
        None => header,
        Some(pax) if header == pax || header == 0 || pax > MAX_OCTAL_SIZE => pax,
        Some(pax) => return Err(format!("two sizes for one entry: {header} in the header, {pax} in PAX")),
    };
    if size_bytes > i64::MAX.cast_unsigned() - BLOCK_BYTES as u64 {
        return Err(format!("an entry of {size_bytes} bytes"));
    }
    Ok(size_bytes)
}

fn kind(header: &Header<'_>, path: &[u8], target: Vec<u8>) -> Result<EntryKind, String> {
    let target = PathBuf::from(OsString::from_vec(target));
    Ok(match header.type_flag() {
        // Before POSIX, a folder was a file whose name ended so.
        0 | b'0' if path.ends_with(b"/") => EntryKind::Directory,
        0 | b'0' | b'7' | b'S' => EntryKind::File,
        b'1' | b'2' if target.as_os_str().is_empty() => return Err("a link without target".to_owned()),
        b'1' => EntryKind::Hardlink { target },
        b'2' => EntryKind::Symlink { target },
        b'3' => header.device().map(|(major, minor)| EntryKind::CharDevice { major, minor })?,
        b'4' => header.device().map(|(major, minor)| EntryKind::BlockDevice { major, minor })?,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        other => return Err(format!("unknown type of entry: {:?}", char::from(other))),
    })
}

/// An owner that Linux can store; 2^32 - 1 means "unchanged" to it.
fn owner(id: i64) -> Result<u32, String> {
    u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(|| format!("owner {id} out of range"))
}

fn without_trailing_slash(mut path: Vec<u8>) -> PathBuf {
    while path.len() > 1 && path.ends_with(b"/") {
        path.pop();
    }
    PathBuf::from(OsString::from_vec(path))
}
