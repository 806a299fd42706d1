//! A tar that is written down while it is read: one thread brings its bytes, another reads, hashes and writes them.
//!
//! Invariant: the bytes that the reader was given, to the end of the stream, are those that are written; else both fail.

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use carrack_content::BlobWriter;

use crate::Result;

/// What is handed over at once, and written with one call.
const CHUNK_BYTES: usize = 256 << 10;
/// As many chunks wait between the threads.
const CHUNKS: usize = 4;

/// A chunk of the tar; an empty one is the end, an error breaks the stream.
type Piece = io::Result<Vec<u8>>;

/// Lets `read` read `tar` to its end on a thread of its own, which writes it into `writer` too; this thread brings it.
///
/// To inflate is the longest part of a pull, so that the thread that does it is left alone with that.
pub(super) fn written_down<T: Send>(
    tar: &mut dyn Read,
    writer: BlobWriter,
    read: impl FnOnce(&mut dyn BufRead) -> Result<T> + Send,
) -> Result<(T, BlobWriter)> {
    std::thread::scope(|scope| {
        let (full, pieces) = sync_channel(CHUNKS);
        // As many as there can be, so that none is ever thrown away.
        let (used, spare) = sync_channel(CHUNKS + 2);
        let reading = scope.spawn(move || {
            let mut tar = Written {
                pieces,
                used,
                writer,
                chunk: Vec::new(),
                position: 0,
                is_at_end: false,
                failure: None,
            };
            let result = read(&mut tar);
            match tar.failure {
                // The reader only knows that it gets no more.
                Some(source) => Err(carrack_layer::Error::Write { source }.into()),
                None => Ok((result?, tar.writer)),
            }
        });
        bring(tar, &full, &spare);
        reading.join().expect("reading does not panic")
    })
}

/// Hands a tar over to its end, or until nobody wants it.
fn bring(tar: &mut dyn Read, full: &SyncSender<Piece>, spare: &Receiver<Vec<u8>>) {
    loop {
        // New memory for each chunk would have to be mapped and cleared.
        let mut chunk = spare.try_recv().unwrap_or_default();
        chunk.resize(CHUNK_BYTES, 0);
        let piece = fill(tar, &mut chunk).map(|count| {
            chunk.truncate(count);
            chunk
        });
        let is_last = piece.as_ref().map_or(true, Vec::is_empty);
        if full.send(piece).is_err() || is_last {
            return;
        }
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match source.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Gives the bytes of a tar, which it has written before.
struct Written {
    pieces: Receiver<Piece>,
    /// Chunks that were read, to be filled again.
    used: SyncSender<Vec<u8>>,
    writer: BlobWriter,
    chunk: Vec<u8>,
    /// As much of the chunk was read.
    position: usize,
    is_at_end: bool,
    /// Why it cannot be written.
    failure: Option<io::Error>,
}

impl Written {
    fn next(&mut self) -> io::Result<()> {
        self.position = 0;
        // Nobody wants it at the end.
        let _ = self.used.try_send(std::mem::take(&mut self.chunk));
        let ended = || Err(io::Error::new(io::ErrorKind::UnexpectedEof, "whoever brings the tar has ended"));
        self.chunk = self.pieces.recv().unwrap_or_else(|_| ended())?;
        self.writer.write_all(&self.chunk).map_err(|error| {
            self.failure = Some(error);
            io::Error::other("the tar cannot be written down")
        })
    }
}

impl Read for Written {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Written {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.chunk.len() && !self.is_at_end {
            self.next()?;
            self.is_at_end = self.chunk.is_empty();
        }
        Ok(&self.chunk[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

#[cfg(test)]
mod tests {
    use carrack_content::ContentStore;
    use carrack_oci::Digest;

    use super::*;

    #[test]
    fn what_is_read_is_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let content = ContentStore::open(folder.path()).unwrap();
        let bytes: Vec<u8> = (0..3 * CHUNK_BYTES + 77).map(|number| (number % 251) as u8).collect();
        let mut got = Vec::new();
        let ((), writer) = written_down(&mut bytes.as_slice(), content.writer().unwrap(), |tar| {
            tar.read_to_end(&mut got).map(drop).map_err(|source| carrack_layer::Error::Read { source }.into())
        })
        .unwrap();
        assert_eq!(got, bytes);
        assert_eq!(writer.commit().unwrap(), (Digest::of(&bytes), bytes.len() as u64));
    }

    #[test]
    fn a_reader_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let content = ContentStore::open(folder.path()).unwrap();
        let mut broken = (&[7; 1000][..]).chain(Broken);
        let read = written_down(&mut broken, content.writer().unwrap(), |tar| {
            io::copy(tar, &mut io::sink()).map_err(|source| carrack_layer::Error::Read { source }.into())
        });
        assert!(read.is_err());
        assert!(content.list().unwrap().is_empty() && content.ingests().unwrap().is_empty());
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
}
