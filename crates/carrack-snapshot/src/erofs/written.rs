//! A tar that is written down while it is read: one thread brings its bytes, another reads, hashes and writes them.
//!
//! Invariant: the bytes that the reader was given, to the end of the stream, are those that are written; else both fail.

use std::cell::RefCell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use carrack_content::BlobWriter;
use carrack_layer::LargeFile;

use super::layers::Layers;
use super::sharing::{Found, Sharing};
use crate::Result;

/// What is handed over at once, and written with one call.
const CHUNK_BYTES: usize = 256 << 10;
/// As many chunks wait between the threads.
const CHUNKS: usize = 4;

/// A chunk of the tar; an empty one is the end, an error breaks the stream.
type Piece = io::Result<Vec<u8>>;

/// Lets `read` read `tar` to its end on a thread of its own, which writes it into `writer` too; this thread brings it.
/// What `read` announces of large files is left out where other layers have it.
///
/// To inflate is the longest part of a pull, so that the thread that does it is left alone with that.
pub(super) fn written_down<T: Send>(
    tar: &mut dyn Read,
    writer: BlobWriter,
    layers: &Layers,
    read: impl FnOnce(&mut dyn BufRead, &RefCell<Vec<LargeFile>>) -> Result<T> + Send,
) -> Result<(T, BlobWriter, Found)> {
    std::thread::scope(|scope| {
        let (full, pieces) = sync_channel(CHUNKS);
        // As many as there can be, so that none is ever thrown away.
        let (used, spare) = sync_channel(CHUNKS + 2);
        let reading = scope.spawn(move || {
            let announced = Rc::default();
            let mut tar = Written {
                pieces,
                used,
                writer,
                sharing: Sharing::new(layers, Rc::clone(&announced)),
                chunk: Vec::new(),
                position: 0,
                is_at_end: false,
                failure: None,
            };
            let result = read(&mut tar, &announced);
            let written = |source| carrack_layer::Error::Write { source };
            match tar.failure {
                // The reader only knows that it gets no more.
                Some(source) => Err(written(source).into()),
                None => {
                    let result = result?;
                    let found = tar.sharing.finish(&mut tar.writer).map_err(written)?;
                    Ok((result, tar.writer, found))
                }
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

/// Gives the bytes of a tar, and writes them when they were read: by then it is known which of them others have.
struct Written<'a> {
    pieces: Receiver<Piece>,
    /// Chunks that were read, to be filled again.
    used: SyncSender<Vec<u8>>,
    writer: BlobWriter,
    sharing: Sharing<'a>,
    chunk: Vec<u8>,
    /// As much of the chunk was read.
    position: usize,
    is_at_end: bool,
    /// Why it cannot be written.
    failure: Option<io::Error>,
}

impl Written<'_> {
    fn next(&mut self) -> io::Result<()> {
        self.sharing.put_down(&self.chunk, &mut self.writer).map_err(|error| {
            self.failure = Some(error);
            io::Error::other("the tar cannot be written down")
        })?;
        self.position = 0;
        // Nobody wants it at the end.
        let _ = self.used.try_send(std::mem::take(&mut self.chunk));
        let ended = || Err(io::Error::new(io::ErrorKind::UnexpectedEof, "whoever brings the tar has ended"));
        self.chunk = self.pieces.recv().unwrap_or_else(|_| ended())?;
        Ok(())
    }
}

impl Read for Written<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Written<'_> {
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
        let layers = Layers::new(&folder.path().join("erofs"), &content);
        let mut got = Vec::new();
        let read = |tar: &mut dyn BufRead, _: &RefCell<_>| {
            tar.read_to_end(&mut got).map(drop).map_err(|source| carrack_layer::Error::Read { source }.into())
        };
        let writer = content.writer().unwrap();
        let ((), writer, _) = written_down(&mut bytes.as_slice(), writer, &layers, read).unwrap();
        assert_eq!(got, bytes);
        assert_eq!(writer.commit().unwrap(), (Digest::of(&bytes), bytes.len() as u64));
    }

    #[test]
    fn a_reader_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let content = ContentStore::open(folder.path()).unwrap();
        let layers = Layers::new(&folder.path().join("erofs"), &content);
        let mut broken = (&[7; 1000][..]).chain(Broken);
        let read = written_down(&mut broken, content.writer().unwrap(), &layers, |tar, _| {
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
