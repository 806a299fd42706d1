//! Response bodies: bytes in memory, or a part of a file that is read while it is sent.
//!
//! Invariant: a download holds at most two buffers of [`CHUNK_BYTES`], and no thread while its client is slow: each
//! chunk is read by a short job on a blocking thread.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::body::{Bytes, Frame, SizeHint};
use tokio::task::JoinHandle;

const CHUNK_BYTES: usize = 256 << 10;
const MAX_IDLE_BUFFERS: usize = 64;

/// Buffers to use again: fresh ones cost a page fault for every 4 KiB.
#[derive(Clone, Default)]
pub(crate) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| vec![0; CHUNK_BYTES])
    }
}

/// A filled buffer; goes back when the connection has sent it.
struct Filled {
    buffer: Vec<u8>,
    length: usize,
    home: Buffers,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let mut idle = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE_BUFFERS {
            idle.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// What a response carries.
pub(crate) enum Body {
    /// Bytes in memory; `None` once they are sent.
    Whole(Option<Bytes>),
    /// A part of a file.
    File(FilePart),
}

impl Body {
    /// No bytes.
    pub(crate) fn empty() -> Self {
        Self::Whole(None)
    }

    /// `bytes` at once.
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }
}

/// A part of a file on its way.
pub(crate) struct FilePart {
    file: Arc<File>,
    /// The first byte that no job reads yet.
    offset: u64,
    /// Bytes that are not handed to the connection yet.
    remaining: u64,
    reading: Option<JoinHandle<io::Result<Filled>>>,
    buffers: Buffers,
    end: u64,
}

impl FilePart {
    /// `length` bytes of `file` from `start`.
    pub(crate) fn new(file: File, start: u64, length: u64, buffers: Buffers) -> Self {
        let (file, end) = (Arc::new(file), start + length);
        Self { file, offset: start, remaining: length, reading: None, buffers, end }
    }

    /// Begins to read the next chunk where none is under way.
    fn read_ahead(&mut self) {
        let length = (self.end - self.offset).min(CHUNK_BYTES as u64) as usize;
        if length == 0 {
            self.reading = None;
            return;
        }
        let (file, offset, home) = (self.file.clone(), self.offset, self.buffers.clone());
        self.offset += length as u64;
        self.reading = Some(tokio::task::spawn_blocking(move || {
            let mut buffer = home.take();
            file.read_exact_at(&mut buffer[..length], offset)?;
            Ok(Filled { buffer, length, home })
        }));
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        if self.reading.is_none() {
            self.read_ahead();
        }
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let filled = match ready!(Pin::new(reading).poll(context)) {
            Ok(Ok(filled)) => filled,
            Ok(Err(error)) => return Poll::Ready(Some(Err(error))),
            Err(error) => return Poll::Ready(Some(Err(io::Error::other(error)))),
        };
        self.remaining -= filled.length as u64;
        self.read_ahead();
        Poll::Ready(Some(Ok(Bytes::from_owner(filled))))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::File(part) => {
                part.poll_chunk(context).map(|chunk| chunk.map(|bytes| bytes.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::File(part) => part.remaining == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::File(part) => part.remaining,
        })
    }
}
