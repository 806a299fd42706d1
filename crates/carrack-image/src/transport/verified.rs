//! Copying and comparing bytes against a descriptor.

use std::io::{self, Read, Take, Write};
use std::path::Path;

use carrack_oci::{Descriptor, VerifyingReader};
use carrack_sys::IoContext;

use crate::{Error, Result};

const BUFFER_BYTES: usize = 256 << 10;

/// A blob on its way: hashed while it is read, compared at its end.
pub(super) struct Checked<'a> {
    descriptor: &'a Descriptor,
    reader: VerifyingReader<Take<&'a mut dyn Read>>,
}

impl<'a> Checked<'a> {
    /// Bounds the blob to one byte more than it may have.
    pub fn new(descriptor: &'a Descriptor, blob: &'a mut dyn Read) -> Self {
        let bounded = blob.take(descriptor.size.saturating_add(1));
        Self { descriptor, reader: VerifyingReader::new(bounded, descriptor.digest.hasher()) }
    }

    /// Compares what was read with the descriptor.
    pub fn finish(self) -> Result<()> {
        let (got, got_bytes) = self.reader.finish();
        check(self.descriptor, got.as_str(), got_bytes)
    }
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

/// Copies exactly the blob of `descriptor`; other bytes are an error, after which `sink` is worthless.
pub(super) fn copy(
    descriptor: &Descriptor,
    blob: &mut dyn Read,
    sink: &mut dyn Write,
    path: &Path,
) -> Result<()> {
    let mut checked = Checked::new(descriptor, blob);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = checked.read(&mut buffer).during("read the blob for", path)?;
        if count == 0 {
            return checked.finish();
        }
        sink.write_all(&buffer[..count]).during("write", path)?;
    }
}

/// Compares a document with its descriptor.
pub(super) fn document(descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
    let mut hasher = descriptor.digest.hasher();
    hasher.update(bytes);
    check(descriptor, hasher.finish().as_str(), bytes.len() as u64)
}

/// Compares the size alone, where the digest is checked later.
pub(super) fn size(descriptor: &Descriptor, got_bytes: u64) -> Result<()> {
    if got_bytes == descriptor.size { Ok(()) } else { Err(mismatch(descriptor, "other content", got_bytes)) }
}

fn check(descriptor: &Descriptor, got: &str, got_bytes: u64) -> Result<()> {
    let is_same = got == descriptor.digest.as_str() && got_bytes == descriptor.size;
    if is_same { Ok(()) } else { Err(mismatch(descriptor, got, got_bytes)) }
}

fn mismatch(descriptor: &Descriptor, got: &str, got_bytes: u64) -> Error {
    Error::Mismatch {
        digest: descriptor.digest.clone(),
        expected_bytes: descriptor.size,
        got: got.to_owned(),
        got_bytes,
    }
}
