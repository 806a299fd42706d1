//! Where the records of inodes are while a tree is being built.
//!
//! Invariant: a record is at a multiple of 8, so that its number has 32 bits for 32 GiB of records.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::{Error, Result};

const UNIT_BYTES: u64 = 8;
/// As much is kept in memory before it is written.
const BUFFER_BYTES: usize = 512 * 1024;
/// As much is read at once.
const WINDOW_BYTES: usize = 64 * 1024;

/// What gives the record of an inode, by the number that the tree has for it.
pub trait Records {
    /// Puts a record into `record`, in place of what is there.
    fn read(&mut self, number: u32, record: &mut Vec<u8>) -> Result<()>;
}

/// Records in memory, and beyond half a MiB in a file. Each one has its length before it.
pub struct Scratch<'f> {
    open: Box<dyn FnMut() -> io::Result<File> + 'f>,
    file: Option<File>,
    /// What is not in the file yet.
    buffer: Vec<u8>,
    written: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl<'f> Scratch<'f> {
    /// `open` is asked for an empty file when there is more than fits into memory.
    pub fn new(open: impl FnMut() -> io::Result<File> + 'f) -> Self {
        let (buffer, window) = (Vec::new(), Vec::new());
        Self { open: Box::new(open), file: None, buffer, written: 0, window, window_start: 0 }
    }

    /// Keeps a record; returns its number.
    pub fn append(&mut self, record: &[u8]) -> Result<u32> {
        let place = self.written + self.buffer.len() as u64;
        let limit = UNIT_BYTES << 32;
        let number = u32::try_from(place / UNIT_BYTES)
            .map_err(|_| Error::TooLarge { what: "bytes of metadata", limit })?;
        let length =
            u32::try_from(record.len()).map_err(|_| Error::TooLarge { what: "bytes of an entry", limit })?;
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.buffer.extend_from_slice(record);
        self.buffer.resize(self.buffer.len().next_multiple_of(8), 0);
        if self.buffer.len() >= BUFFER_BYTES {
            self.spill().map_err(Error::io("write the scratch file of"))?;
        }
        Ok(number)
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => (self.open)()?,
        };
        file.write_all_at(&self.buffer, self.written)?;
        self.file = Some(file);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Bytes at `start`, which are there, from memory, the window, or the file.
    fn slice(&mut self, start: u64, length: usize) -> Result<&[u8]> {
        let outside = Error::Damaged { offset: start, reason: "a record outside the scratch file" };
        if let Some(in_buffer) = start.checked_sub(self.written) {
            let from = usize::try_from(in_buffer).unwrap_or(usize::MAX);
            return self.buffer.get(from..from.saturating_add(length)).ok_or(outside);
        }
        let end = start + length as u64;
        if start < self.window_start || end > self.window_start + self.window.len() as u64 {
            // In sequence a whole window pays off; elsewhere a record is all that is needed.
            let is_next = start >= self.window_start && start <= self.window_start + self.window.len() as u64;
            let wanted = length.max(if is_next { WINDOW_BYTES } else { 512 });
            let size = (wanted as u64).min(self.written - start);
            self.window.resize(usize::try_from(size).unwrap_or_default(), 0);
            self.window_start = start;
            let file = self.file.as_ref().ok_or(outside)?;
            file.read_exact_at(&mut self.window, start).map_err(Error::io("read the scratch file of"))?;
        }
        let from = usize::try_from(start - self.window_start).unwrap_or(usize::MAX);
        let outside = Error::Damaged { offset: start, reason: "a record outside the scratch file" };
        self.window.get(from..from.saturating_add(length)).ok_or(outside)
    }
}

impl Records for Scratch<'_> {
    fn read(&mut self, number: u32, record: &mut Vec<u8>) -> Result<()> {
        let start = u64::from(number) * UNIT_BYTES;
        let length = self.slice(start, 4)?;
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        let bytes = self.slice(start + 4, usize::try_from(length).unwrap_or(usize::MAX))?;
        record.clear();
        record.extend_from_slice(bytes);
        Ok(())
    }
}
