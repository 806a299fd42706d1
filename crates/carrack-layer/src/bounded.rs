//! A stream that must not be longer than its reader allows.
//!
//! Invariant: no byte beyond the bound is given out.

use std::io::{self, BufRead, Read};

use crate::Error;

/// A reader that fails where the bound is passed.
pub(crate) struct Bounded<R> {
    pub inner: R,
    left_bytes: u64,
}

impl<R> Bounded<R> {
    pub fn new(inner: R, limit_bytes: u64) -> Self {
        Self { inner, left_bytes: limit_bytes }
    }

    /// How many bytes may still come.
    pub fn left_bytes(&self) -> u64 {
        self.left_bytes
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.left_bytes.checked_sub(count as u64);
        self.left_bytes = left.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Bounded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let buffer = self.inner.fill_buf()?;
        match buffer.len() as u64 <= self.left_bytes {
            true => Ok(buffer),
            false => Err(io::ErrorKind::FileTooLarge.into()),
        }
    }

    fn consume(&mut self, count: usize) {
        self.inner.consume(count);
        // No more than was buffered, and that was compared with what is left.
        self.left_bytes = self.left_bytes.saturating_sub(count as u64);
    }
}

/// Names the bound where a [`Bounded`] has failed.
pub(crate) fn too_large(error: Error, limit_bytes: u64) -> Error {
    match error {
        Error::Read { source } if source.kind() == io::ErrorKind::FileTooLarge => {
            Error::TooLarge { limit_bytes }
        }
        other => other,
    }
}
