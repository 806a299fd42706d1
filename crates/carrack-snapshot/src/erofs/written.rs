//! A tar that is written down while it is read: a thread of its own hashes and writes it.
//!
//! Invariant: the bytes that the reader was given, to the end of the stream, are those that are written; else both fail.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use carrack_content::BlobWriter;

use crate::Result;

/// What is handed over at once, and written with one call.
const CHUNK_BYTES: usize = 256 << 10;
/// As many chunks wait between the threads.
const CHUNKS: usize = 4;

/// Lets `read` read `tar`, which goes into `writer` meanwhile.
pub(super) fn written_down<T>(
    tar: &mut dyn Read,
    mut writer: BlobWriter,
    read: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<(T, BlobWriter)> {
    std::thread::scope(|scope| {
        let (full, to_write) = sync_channel(CHUNKS);
        // As many as there can be, so that none is ever thrown away.
        let (empty, spare) = sync_channel(CHUNKS + 2);
        let writing = scope.spawn(move || write(&mut writer, &to_write, &empty).map(|()| writer));
        let mut tee = Tee { tar, full, spare, chunk: Vec::new() };
        let result = read(&mut tee);
        let handed_over = tee.hand_over();
        drop(tee);
        // When the writer has failed, the reader only knows that nobody takes its chunks.
        let writer = writing.join().expect("writing does not panic")?;
        handed_over.map_err(|source| carrack_layer::Error::Write { source })?;
        Ok((result?, writer))
    })
}

/// Reads to the end of a stream, or to where it is no archive.
pub(super) fn drain(tar: &mut dyn Read) -> Result<()> {
    Ok(carrack_layer::skim(tar)?)
}

fn write(
    writer: &mut BlobWriter,
    to_write: &Receiver<Vec<u8>>,
    empty: &SyncSender<Vec<u8>>,
) -> Result<(), carrack_layer::Error> {
    while let Ok(chunk) = to_write.recv() {
        writer.write_all(&chunk).map_err(|source| carrack_layer::Error::Write { source })?;
        // Nobody wants it at the end.
        let _ = empty.try_send(chunk);
    }
    Ok(())
}

/// Gives the bytes of a tar, and copies of them to the thread that writes.
struct Tee<'a> {
    tar: &'a mut dyn Read,
    full: SyncSender<Vec<u8>>,
    /// Chunks that were written: new memory for each would have to be mapped and cleared.
    spare: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
}

impl Tee<'_> {
    fn hand_over(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let mut next = self.spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK_BYTES));
        next.clear();
        let chunk = std::mem::replace(&mut self.chunk, next);
        self.full.send(chunk).map_err(|_| io::Error::other("the tar cannot be written down"))
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.tar.read(buffer)?;
        let mut left = &buffer[..count];
        while !left.is_empty() {
            let fits = left.len().min(CHUNK_BYTES - self.chunk.len());
            self.chunk.extend_from_slice(&left[..fits]);
            left = &left[fits..];
            if self.chunk.len() == CHUNK_BYTES {
                self.hand_over()?;
            }
        }
        Ok(count)
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
        assert!(written_down(&mut broken, content.writer().unwrap(), drain).is_err());
        assert!(content.list().unwrap().is_empty() && content.ingests().unwrap().is_empty());
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
}
