//! Streams of blobs between threads: one makes the bytes, another reads and checks them.
//!
//! Invariant: a stream that breaks says why; it never looks like one that is complete.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use carrack_distribution::BlobSink;
use carrack_oci::{Descriptor, Hasher};

use crate::Result;

/// A blob that can be read once.
pub(crate) type BlobReader = Box<dyn Read + Send>;

/// How many pieces wait for the reader; a piece is what the producer writes at once.
const PENDING_PIECES: usize = 4;

type Piece = io::Result<Vec<u8>>;

/// Runs `produce` on a thread of `scope` and returns what it writes. When the reader is dropped, the next write
/// fails.
pub(crate) fn produced<'scope>(
    scope: &'scope Scope<'scope, '_>,
    produce: impl FnOnce(&mut PieceWriter) -> Result<()> + Send + 'scope,
) -> BlobReader {
    let (sender, pieces) = sync_channel(PENDING_PIECES);
    scope.spawn(move || {
        let mut writer = PieceWriter { sender, written_bytes: 0 };
        let last = match produce(&mut writer) {
            // An empty piece is the end: without it, the producer has panicked.
            Ok(()) => Ok(Vec::new()),
            Err(error) => Err(io::Error::other(error)),
        };
        // Fails when nobody reads any more, who then has an error of their own.
        let _ = writer.sender.send(last);
    });
    Box::new(PieceReader { pieces, piece: Vec::new(), position: 0 })
}

/// The producer's end.
pub(crate) struct PieceWriter {
    sender: SyncSender<Piece>,
    written_bytes: u64,
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.sender.send(Ok(bytes.to_vec())).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        self.written_bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a registry sends can go straight on, and resume where it broke off; it cannot begin anew.
impl BlobSink for PieceWriter {
    fn offset(&self) -> u64 {
        self.written_bytes
    }

    fn restart(&mut self) -> io::Result<()> {
        match self.written_bytes {
            0 => Ok(()),
            _ => Err(io::Error::other("the registry cannot go on with a blob that is on its way already")),
        }
    }
}

struct PieceReader {
    pieces: Receiver<Piece>,
    piece: Vec<u8>,
    position: usize,
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.piece.len() && !buffer.is_empty() {
            let broken = |_| Err(io::Error::other("the source of a blob ended without a word"));
            self.piece = self.pieces.recv().unwrap_or_else(broken)?;
            self.position = 0;
        }
        let count = (&self.piece[self.position..]).read(buffer)?;
        self.position += count;
        Ok(count)
    }
}

/// Gives the bytes of `inner`, but its last ones only when all have the digest and size of a descriptor.
pub(crate) struct Exact<R> {
    inner: R,
    expected: Descriptor,
    hasher: Hasher,
    left_bytes: u64,
    on_mismatch: Option<Box<dyn FnOnce() + Send>>,
}

impl<R: Read> Exact<R> {
    pub fn new(inner: R, expected: &Descriptor) -> Self {
        let (hasher, left_bytes) = (expected.digest.hasher(), expected.size);
        Self { inner, expected: expected.clone(), hasher, left_bytes, on_mismatch: None }
    }

    /// Does something more when the bytes are others.
    pub fn on_mismatch(self, act: impl FnOnce() + Send + 'static) -> Self {
        Self { on_mismatch: Some(Box::new(act)), ..self }
    }

    fn check(&self, got_bytes: u64) -> io::Result<()> {
        let Descriptor { digest, size, .. } = &self.expected;
        if got_bytes != *size {
            let (digest, expected, got) = (digest.clone(), *size, got_bytes);
            return Err(io::Error::other(carrack_content::Error::SizeMismatch { digest, expected, got }));
        }
        let got = self.hasher.clone().finish();
        if got != *digest {
            let (expected, size_bytes) = (digest.clone(), *size);
            return Err(io::Error::other(carrack_content::Error::DigestMismatch {
                expected,
                got,
                size_bytes,
            }));
        }
        Ok(())
    }
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left_bytes == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let length = buffer.len().min(usize::try_from(self.left_bytes).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut buffer[..length])?;
        self.hasher.update(&buffer[..count]);
        self.left_bytes -= count as u64;
        if count == 0 || self.left_bytes == 0 {
            self.check(self.expected.size - self.left_bytes).inspect_err(|_| {
                if let Some(act) = self.on_mismatch.take() {
                    act();
                }
            })?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(produce: impl FnOnce(&mut PieceWriter) -> Result<()> + Send) -> io::Result<Vec<u8>> {
        std::thread::scope(|scope| {
            let mut bytes = Vec::new();
            produced(scope, produce).read_to_end(&mut bytes).map(|_| bytes)
        })
    }

    #[test]
    fn a_stream_is_whole_or_an_error() {
        let whole = read(|out| {
            for piece in [&b"one "[..], b"", b"two"] {
                out.write_all(piece).unwrap();
            }
            Ok(())
        });
        assert_eq!(whole.unwrap(), b"one two");
        let broken = read(|out| {
            out.write_all(b"one").unwrap();
            Err(crate::Error::refused("broken", ""))
        });
        assert_eq!(broken.unwrap_err().to_string(), "broken");
    }

    #[test]
    fn a_producer_ends_when_nobody_reads() {
        std::thread::scope(|scope| {
            let mut reader = produced(scope, |out| {
                loop {
                    out.write_all(&[0; 4096])
                        .map_err(|error| crate::Error::refused(error.to_string(), ""))?;
                }
            });
            reader.read_exact(&mut [0; 10_000]).unwrap();
        });
    }

    #[test]
    fn other_bytes_are_found_before_the_last_one() {
        let expected = Descriptor::of("x", b"hello");
        let read = |bytes: &[u8]| {
            let mut got = Vec::new();
            Exact::new(bytes, &expected).read_to_end(&mut got).map(|_| got)
        };
        assert_eq!(read(b"hello").unwrap(), b"hello");
        assert!(read(b"jello").unwrap_err().to_string().contains("digest mismatch"));
        assert!(read(b"hell").unwrap_err().to_string().contains("expected 5 bytes, got 4"));
    }
}
