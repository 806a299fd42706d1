//! A large file: written in whole blocks, by a thread of its own, past the kernel's cache where the file system allows
//! that.
//!
//! Filling the cache costs more time than all else of a transfer, and drives out what somebody needs.
//!
//! Invariant: a block is written at its place, whatever was written there before: a write that has failed half way can
//! be done again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use carrack_sys::cache;

const BLOCK_BYTES: usize = 1 << 20;
/// No file system asks for more of the address and the place of what goes past the cache.
const ALIGNMENT: usize = 4096;
/// As many blocks wait for the thread: the disk has the next one at hand.
const BLOCKS: usize = 2;

/// Fills a buffer with the bytes at a place.
pub(crate) type ReadAt<'a> = dyn Fn(&mut [u8], u64) -> io::Result<()> + 'a;

/// Takes bytes, and writes them in blocks.
pub struct BlockWriter {
    file: Arc<File>,
    block: Block,
    /// Begun when there is a full block: small files are written at once.
    writing: Option<Writing>,
    /// The place of `block` in the file.
    position: u64,
    /// As much of the beginning goes through the cache.
    cached_bytes: u64,
}

/// The thread that writes full blocks.
struct Writing {
    full: SyncSender<Block>,
    spare: Receiver<Block>,
    thread: JoinHandle<io::Result<()>>,
}

/// Memory at an address that a disk can fetch from.
struct Block {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
    /// Which pages are to be written: those with a byte that is not left out.
    pages: Vec<bool>,
}

impl Block {
    fn new() -> Self {
        let bytes = vec![0; BLOCK_BYTES + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { bytes, start, length: 0, pages: vec![false; BLOCK_BYTES / ALIGNMENT] }
    }

    fn clear(&mut self) {
        self.length = 0;
        self.pages.fill(false);
    }

    /// Says that the bytes in `range` are to be written.
    fn mark(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.pages[range.start / ALIGNMENT..range.end.div_ceil(ALIGNMENT)].fill(true);
        }
    }

    /// The runs of pages that are to be written: where each begins in the block, and its bytes.
    fn runs(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let filled = &self.bytes[self.start..self.start + self.length];
        let mut runs = Vec::new();
        let mut at = 0;
        for run in self.pages[..self.length.div_ceil(ALIGNMENT)].chunk_by(|one, next| one == next) {
            let end = (at + run.len() * ALIGNMENT).min(filled.len());
            if run[0] {
                runs.push((at, &filled[at..end]));
            }
            at = end;
        }
        runs.into_iter()
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start + self.length..self.start + BLOCK_BYTES]
    }
}

impl BlockWriter {
    /// Writes an empty `file`, of which the kernel's cache keeps the first `cached_bytes`.
    pub fn new(file: File, cached_bytes: u64) -> Self {
        Self { file: Arc::new(file), block: Block::new(), writing: None, position: 0, cached_bytes }
    }

    /// Writes `source` to its end; returns how many bytes it had.
    pub fn copy_from(&mut self, source: &mut dyn Read) -> io::Result<u64> {
        let mut copied = 0;
        loop {
            match source.read(self.block.room()) {
                Ok(0) => return Ok(copied),
                Ok(count) => {
                    copied += count as u64;
                    self.filled(count, true)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what is left; all is in the file then, and nothing synced.
    pub fn finish(&mut self) -> io::Result<&File> {
        self.end_thread()?;
        // The rest is no whole block, which the cache takes alone.
        let _ = cache::bypass(&self.file, false);
        for (start, bytes) in self.block.runs() {
            self.file.write_all_at(bytes, self.position + start as u64)?;
        }
        self.position += self.block.length as u64;
        self.block.clear();
        Ok(&self.file)
    }

    /// Takes bytes of which no whole page is written, unless [`BlockWriter::write_after_all`] says so.
    pub fn leave_out(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.block.room();
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.filled(count, false)?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Writes whole pages in `range` of the file that were left out, as `read` has them.
    pub fn write_after_all(&mut self, range: Range<u64>, read: &ReadAt<'_>) -> io::Result<()> {
        const PAGE: u64 = ALIGNMENT as u64;
        // What is still in memory has the bytes.
        let within = |place: u64| usize::try_from(place.saturating_sub(self.position)).unwrap_or(BLOCK_BYTES);
        let in_block = within(range.start)..within(range.end).min(self.block.length);
        self.block.mark(in_block);
        let (mut at, end) = (range.start.next_multiple_of(PAGE), range.end.min(self.position) / PAGE * PAGE);
        let mut block = Block::new();
        while at < end {
            let count = usize::try_from(end - at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            let bytes = &mut block.bytes[block.start..block.start + count];
            read(bytes, at)?;
            write_aligned(&self.file, bytes, at)?;
            at += count as u64;
        }
        Ok(())
    }

    /// Counts bytes that were put into the block, and marks them as to be written or not.
    fn filled(&mut self, count: usize, is_written: bool) -> io::Result<()> {
        if is_written {
            self.block.mark(self.block.length..self.block.length + count);
        }
        self.block.length += count;
        if self.block.length < BLOCK_BYTES {
            return Ok(());
        }
        let (file, cached_bytes) = (&self.file, self.cached_bytes);
        let writing = self.writing.get_or_insert_with(|| Writing::begin(Arc::clone(file), cached_bytes));
        let next = writing.spare.try_recv().unwrap_or_else(|_| Block::new());
        self.position += BLOCK_BYTES as u64;
        match writing.full.send(std::mem::replace(&mut self.block, next)) {
            Ok(()) => Ok(()),
            Err(_) => self.end_thread(), // it says why it has ended
        }
    }

    fn end_thread(&mut self) -> io::Result<()> {
        let Some(Writing { full, spare, thread }) = self.writing.take() else { return Ok(()) };
        drop((full, spare));
        thread.join().expect("writing does not panic")
    }
}

impl Writing {
    fn begin(file: Arc<File>, cached_bytes: u64) -> Self {
        let (full, to_write) = sync_channel::<Block>(BLOCKS);
        // As many as there can be, so that none is ever thrown away.
        let (empty, spare) = sync_channel(BLOCKS + 2);
        let thread = thread::spawn(move || write_blocks(&file, cached_bytes, &to_write, &empty));
        Self { full, spare, thread }
    }
}

fn write_blocks(
    file: &File,
    cached_bytes: u64,
    to_write: &Receiver<Block>,
    empty: &SyncSender<Block>,
) -> io::Result<()> {
    let mut bypasses = false;
    let mut position = 0;
    while let Ok(mut block) = to_write.recv() {
        if position == cached_bytes / BLOCK_BYTES as u64 * BLOCK_BYTES as u64 {
            bypasses = cache::bypass(file, true).is_ok();
        }
        for (start, bytes) in block.runs() {
            write_aligned(file, bytes, position + start as u64)?;
        }
        if !bypasses {
            // So that little is left for the sync at the end.
            cache::start_writeback(file, position, BLOCK_BYTES as u64);
        }
        position += BLOCK_BYTES as u64;
        block.clear();
        // Nobody wants it at the end.
        let _ = empty.try_send(block);
    }
    Ok(())
}

/// Writes whole blocks, past the cache if that is asked for and possible.
fn write_aligned(file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
    match file.write_all_at(bytes, position) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            // The file system asks for something else of such writes.
            cache::bypass(file, false)?;
            file.write_all_at(bytes, position)
        }
        written => written,
    }
}

impl Drop for BlockWriter {
    /// What was thrown away is not written to any more.
    fn drop(&mut self) {
        let _ = self.end_thread();
    }
}

impl Write for BlockWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.block.room();
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.filled(count, true)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn what_is_written_is_in_the_file_whatever_its_length() {
        for folder in [std::env::temp_dir().as_path(), std::path::Path::new("/dev/shm")] {
            for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 7 * BLOCK_BYTES + 513] {
                let folder = tempfile::tempdir_in(folder).unwrap();
                let path = folder.path().join("file");
                let bytes: Vec<u8> = (0..length).map(|number| (number * 31 % 251) as u8).collect();
                let mut writer = BlockWriter::new(File::create_new(&path).unwrap(), 3 * BLOCK_BYTES as u64);
                let (first, rest) = bytes.split_at(length / 3);
                writer.write_all(first).unwrap();
                assert_eq!(writer.copy_from(&mut &rest[..]).unwrap(), rest.len() as u64);
                writer.finish().unwrap();
                assert!(std::fs::read(&path).unwrap() == bytes, "{length} bytes");
            }
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let file = OpenOptions::new().read(true).open(path.path()).unwrap();
        let mut writer = BlockWriter::new(file, 0);
        let copied = writer.copy_from(&mut io::repeat(7).take(20 * BLOCK_BYTES as u64));
        assert!(copied.and_then(|_| writer.finish().map(drop)).is_err());
    }
}
