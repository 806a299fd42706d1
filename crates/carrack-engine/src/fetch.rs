//! One layer on its way: received, hashed, inflated, hashed again, written and made mountable, all in one pass.
//!
//! Invariant: a layer is complete when both digests are right, that of the bytes received and that of the tar in them;
//! what is received is also written down as it came, until then, so that a later process goes on where this one ended.

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use carrack_content::Ingest;
use carrack_distribution::BlobSink;
use carrack_layer::compression;
use carrack_oci::{Descriptor, DiffId, Digest};
use carrack_snapshot::{SnapshotKey, Unpacked};
use carrack_sys::IoContext;

use crate::event::{Event, Observer, Phase};
use crate::origin::{IngestSink, Origin};
use crate::pull::MissingLayer;
use crate::{Engine, Error, Result};

const CHUNK_BYTES: usize = 256 << 10;
/// As many chunks wait between the two threads of a layer.
const CHUNKS: usize = 8;

impl Engine {
    /// Brings a layer into the store and makes of it what a snapshot needs. What is here already is not fetched.
    pub(crate) fn fetch_layer(
        &self,
        origin: &Origin,
        layer: &MissingLayer,
        observer: Observer<'_>,
    ) -> Result<Unpacked> {
        let (digest, total) = (&layer.descriptor.digest, layer.descriptor.size);
        let tell = |phase| observer(Event::Blob { digest, phase });
        if self.has_layer(digest, &layer.diff_id)? {
            tell(Phase::Unpacking);
            let unpacked = self.unpack_layer(digest, &layer.diff_id)?;
            tell(Phase::Exists);
            return Ok(unpacked);
        }
        let progress = |done| tell(Phase::Transferring { done, total });
        if *digest == layer.diff_id.0 && self.snapshots.needs_tars() {
            // What comes is the tar itself: one write and one digest are enough.
            let unpacked = self.bring_tar(origin, layer, &progress)?;
            tell(Phase::Complete);
            return Ok(unpacked);
        }
        let unpacked = match self.receive(origin, layer, &progress) {
            // What an earlier process wrote may have been lost with the power: once more, from the beginning.
            Err(Attempt { error, was_resumed: true }) if !error.is_transient() => {
                tracing::debug!(%error, %digest, "what was there is wrong; fetching it again");
                self.content.ingest(&layer.descriptor)?.restart()?;
                self.receive(origin, layer, &progress).map_err(|attempt| attempt.error)?
            }
            result => result.map_err(|attempt| attempt.error)?,
        };
        tell(Phase::Complete);
        Ok(unpacked)
    }

    /// Brings a layer that comes as its plain tar.
    fn bring_tar(
        &self,
        origin: &Origin,
        layer: &MissingLayer,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Unpacked> {
        if !origin.resumes() {
            // Nothing is kept for a later process, so that it is indexed while it is written.
            let mut tar = Told { inner: origin.local_blob(&layer.descriptor)?, done: 0, progress };
            let unpacked = self.snapshots.unpack(&SnapshotKey::unique("layer"), &mut tar, None);
            match unpacked {
                Ok(unpacked) if *unpacked.diff_id() == layer.diff_id => return Ok(unpacked),
                // Below, the digest is the first to be told: wrong bytes are no tar either.
                result => {
                    tracing::debug!(?result, layer = %layer.diff_id, "once more, to tell what is wrong")
                }
            }
        }
        self.fetch(origin, &layer.descriptor, progress)?;
        self.unpack_layer(&layer.descriptor.digest, &layer.diff_id)
    }

    /// Brings a blob into the content store; tells whether it was there.
    pub(crate) fn fetch(
        &self,
        origin: &Origin,
        descriptor: &Descriptor,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<bool> {
        let mut ingest = self.content.ingest(descriptor)?;
        if ingest.is_complete() {
            return Ok(true);
        }
        origin.fetch(descriptor, &mut IngestSink(&mut ingest), progress)?;
        ingest.commit()?;
        Ok(false)
    }

    fn receive(
        &self,
        origin: &Origin,
        layer: &MissingLayer,
        progress: &(dyn Fn(u64) + Sync),
    ) -> std::result::Result<Unpacked, Attempt> {
        let mut was_resumed = false;
        self.receive_once(origin, layer, progress, &mut was_resumed)
            .map_err(|error| Attempt { error, was_resumed })
    }

    fn receive_once(
        &self,
        origin: &Origin,
        layer: &MissingLayer,
        progress: &(dyn Fn(u64) + Sync),
        was_resumed: &mut bool,
    ) -> Result<Unpacked> {
        let mut ingest = self.content.ingest(&layer.descriptor)?;
        // Whoever had it until now may have completed the layer.
        if ingest.is_complete() || self.has_layer(&layer.descriptor.digest, &layer.diff_id)? {
            ingest.discard()?;
            return self.unpack_layer(&layer.descriptor.digest, &layer.diff_id);
        }
        if !origin.resumes() {
            ingest.restart()?;
        }
        *was_resumed = ingest.offset() > 0;
        let (sender, receiver) = sync_channel(CHUNKS);
        // As many as there can be, so that none is ever thrown away.
        let (used, spare) = sync_channel(CHUNKS + 2);
        let (fetched, unpacked, is_seen) = std::thread::scope(|scope| {
            let unpacking = scope.spawn(|| self.unpack_stream(ChunkReader::new(receiver, used)));
            let unpacker = Unpacker::Reads(sender);
            let chunk = Vec::with_capacity(CHUNK_BYTES);
            let mut relay = Relay { ingest: &mut ingest, unpacker, spare, chunk, has_passed: false };
            let fetched =
                relay.pass_written().and_then(|()| origin.fetch(&layer.descriptor, &mut relay, progress));
            let is_seen = relay.end(fetched.is_ok());
            (fetched, unpacking.join().expect("unpacking does not panic"), is_seen)
        });
        fetched?;
        // The digest is the first to be told: wrong bytes do not inflate either. Right ones are kept when they are still
        // needed.
        let is_done = is_seen && unpacked.is_ok() && self.snapshots.needs_tars();
        // A registry can be asked for the exact bytes again, a layout or archive may be gone tomorrow.
        match is_done && origin.resumes() {
            true => ingest.finish()?,
            false => ingest.commit()?,
        }
        match is_seen {
            true => check_diff_id(unpacked?, &layer.diff_id),
            false => self.unpack_layer(&layer.descriptor.digest, &layer.diff_id),
        }
    }

    fn unpack_stream(&self, chunks: ChunkReader) -> Result<Unpacked> {
        let (_, mut tar) = compression::auto_buffered(chunks).during("read", "the layer")?;
        Ok(self.snapshots.unpack(&SnapshotKey::unique("layer"), &mut tar, None)?)
    }

    /// Makes of a layer that is in the store what a snapshot needs, and checks its diff ID.
    pub(crate) fn unpack_layer(&self, digest: &Digest, expected: &DiffId) -> Result<Unpacked> {
        if let Some(unpacked) = self.snapshots.unpacked(expected)? {
            return Ok(unpacked);
        }
        let stored = self.content.size(&expected.0)?.map(|_| expected);
        let mut tar = self.open_layer_tar(digest, expected)?;
        check_diff_id(self.snapshots.unpack(&SnapshotKey::unique("layer"), &mut tar, stored)?, expected)
    }
}

/// A failed attempt to receive a layer.
struct Attempt {
    error: Error,
    /// Whether it went on from what an earlier process had written.
    was_resumed: bool,
}

fn check_diff_id(unpacked: Unpacked, expected: &DiffId) -> Result<Unpacked> {
    if unpacked.diff_id() != expected {
        let message = format!("diff ID mismatch: expected {expected}, got {}", unpacked.diff_id());
        return Err(Error::refused(message, "the image's config does not belong to its layers"));
    }
    Ok(unpacked)
}

/// What is received goes into the ingest, and to the thread that unpacks.
struct Relay<'a> {
    ingest: &'a mut Ingest,
    unpacker: Unpacker,
    /// Chunks that were read: new memory for each would have to be mapped and cleared.
    spare: Receiver<Vec<u8>>,
    /// What will be passed when it is full: small pieces would wake the other thread for little.
    chunk: Vec<u8>,
    has_passed: bool,
}

/// The thread that unpacks, as the one that receives knows it.
enum Unpacker {
    /// It reads.
    Reads(SyncSender<Option<Vec<u8>>>),
    /// It wants no more: it has failed, or has seen all that it needs.
    HasEnded,
    /// It was left alone, because it would get the same bytes again.
    IsLost,
}

impl Relay<'_> {
    /// Passes on what an earlier process has written.
    fn pass_written(&mut self) -> Result<()> {
        let mut left = self.ingest.offset();
        if left == 0 {
            return Ok(());
        }
        let mut file = self.ingest.written()?;
        while left > 0 {
            self.chunk.resize(CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES)), 0);
            file.read_exact(&mut self.chunk).during("read", "what was received")?;
            left -= self.chunk.len() as u64;
            self.pass();
        }
        Ok(())
    }

    /// Passes the chunk on, and begins an empty one.
    fn pass(&mut self) {
        let mut next = self.spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK_BYTES));
        next.clear();
        let chunk = std::mem::replace(&mut self.chunk, next);
        self.has_passed = true;
        if let Unpacker::Reads(sender) = &self.unpacker
            && sender.send(Some(chunk)).is_err()
        {
            // It says why when it is asked. Receiving goes on: the digest tells whose fault it is.
            self.unpacker = Unpacker::HasEnded;
        }
    }

    /// Ends the stream for the thread that unpacks; whether that thread had the chance to see all of it.
    fn end(mut self, is_complete: bool) -> bool {
        if is_complete && !self.chunk.is_empty() {
            self.pass();
        }
        match self.unpacker {
            // Without the mark of the end, the reader there fails.
            Unpacker::Reads(sender) if is_complete => {
                let _ = sender.send(None);
                true
            }
            Unpacker::Reads(_) | Unpacker::IsLost => false,
            Unpacker::HasEnded => true,
        }
    }
}

impl Write for Relay<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK_BYTES - self.chunk.len();
        let count = self.ingest.write(&bytes[..bytes.len().min(room)])?;
        self.chunk.extend_from_slice(&bytes[..count]);
        if self.chunk.len() == CHUNK_BYTES {
            self.pass();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobSink for Relay<'_> {
    fn offset(&self) -> u64 {
        self.ingest.offset()
    }

    fn restart(&mut self) -> io::Result<()> {
        self.chunk.clear();
        if self.has_passed {
            self.unpacker = Unpacker::IsLost; // the blob is unpacked when it is complete
        }
        self.ingest.restart().map_err(io::Error::other)
    }
}

/// The chunks of a layer as a stream; it fails where they end without the mark of the end.
struct ChunkReader {
    chunks: Receiver<Option<Vec<u8>>>,
    used: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
    is_at_end: bool,
}

impl ChunkReader {
    fn new(chunks: Receiver<Option<Vec<u8>>>, used: SyncSender<Vec<u8>>) -> Self {
        Self { chunks, used, chunk: Vec::new(), position: 0, is_at_end: false }
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position == self.chunk.len() && !self.is_at_end {
            match self.chunks.recv() {
                Ok(Some(chunk)) => {
                    self.position = 0;
                    // Nobody wants it at the end.
                    let _ = self.used.try_send(std::mem::replace(&mut self.chunk, chunk));
                }
                Ok(None) => self.is_at_end = true,
                Err(_) => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the transfer was cut short"));
                }
            }
        }
        Ok(&self.chunk[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// Tells how much of a blob was read.
struct Told<'a, R> {
    inner: R,
    done: u64,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        (self.progress)(self.done);
        Ok(count)
    }
}
