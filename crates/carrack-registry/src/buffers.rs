//! Buffers for the bytes of blobs, used again and again: a fresh one costs a page fault for every 4 KiB, which for a
//! large blob is more than hashing it.

use std::sync::{Arc, Mutex, PoisonError};

const BUFFER_BYTES: usize = 256 << 10;
const MAX_IDLE: usize = 64;

/// The buffers that nobody uses now.
#[derive(Clone, Default)]
pub(crate) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// An empty buffer.
    pub(crate) fn take(&self) -> Buffer {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer { bytes: idle.unwrap_or_else(|| vec![0; BUFFER_BYTES]), length: 0, home: self.clone() }
    }
}

/// A buffer in use, with some bytes in it; it goes back when it is dropped.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    home: Buffers,
}

impl Buffer {
    /// Adds as many of `bytes` as it can take; returns the rest.
    pub(crate) fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(bytes.len().min(BUFFER_BYTES - self.length));
        self.bytes[self.length..self.length + taken.len()].copy_from_slice(taken);
        self.length += taken.len();
        rest
    }

    /// Lets `read` put at most `limit` bytes in it, in place of what it has; `read` returns how many it did.
    pub(crate) fn read<E>(
        &mut self,
        limit: u64,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let limit = limit.min(BUFFER_BYTES as u64) as usize;
        self.length = read(&mut self.bytes[..limit])?;
        Ok(())
    }

    /// Whether it can take no more.
    pub(crate) fn is_full(&self) -> bool {
        self.length == BUFFER_BYTES
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut idle = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(std::mem::take(&mut self.bytes));
        }
    }
}
