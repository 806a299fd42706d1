//! Response bodies: bytes in memory, or a part of a file that is read while it is sent.
//!
//! Invariant: a download holds a few buffers, and no thread while its client is slow. What the
//! kernel has in memory is read where it is sent, so that it passes one processor's cache; for the rest, a short job
//! on a blocking thread waits for the disk, and the kernel reads ahead.

use std::fs::File;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Bytes, Frame, SizeHint};
use rustix::io::{ReadWriteFlags, preadv2};
use tokio::task::JoinHandle;

use crate::buffers::{Buffer, Buffers};

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
    /// The first byte that is not handed to the connection yet.
    offset: u64,
    /// How many bytes follow it.
    remaining: u64,
    reading: Option<JoinHandle<io::Result<Buffer>>>,
    buffers: Buffers,
}

impl FilePart {
    /// `length` bytes of `file` from `start`.
    pub(crate) fn new(file: File, start: u64, length: u64, buffers: Buffers) -> Self {
        Self { file: Arc::new(file), offset: start, remaining: length, reading: None, buffers }
    }

    /// Reads what the kernel has in memory; `None` when it would have to wait for the disk.
    fn read_cached(&self) -> Option<Buffer> {
        let mut buffer = self.buffers.take();
        let read = buffer.read(self.remaining, |space| {
            preadv2(&self.file, &mut [IoSliceMut::new(space)], self.offset, ReadWriteFlags::NOWAIT)
        });
        read.ok().map(|()| buffer).filter(|buffer| !buffer.as_ref().is_empty())
    }

    /// Begins to read the next chunk on a thread that may wait for the disk.
    fn read_from_disk(&self) -> JoinHandle<io::Result<Buffer>> {
        let (file, offset, remaining, mut buffer) =
            (self.file.clone(), self.offset, self.remaining, self.buffers.take());
        tokio::task::spawn_blocking(move || {
            buffer.read(remaining, |space| file.read_exact_at(space, offset).map(|()| space.len()))?;
            Ok(buffer)
        })
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        let cached = if self.reading.is_none() { self.read_cached() } else { None };
        let chunk = match cached {
            Some(chunk) => chunk,
            None => {
                let mut reading = self.reading.take().unwrap_or_else(|| self.read_from_disk());
                match Pin::new(&mut reading).poll(context) {
                    Poll::Ready(Ok(Ok(chunk))) => chunk,
                    Poll::Ready(Ok(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                    Poll::Pending => {
                        self.reading = Some(reading);
                        return Poll::Pending;
                    }
                }
            }
        };
        let length = chunk.as_ref().len() as u64;
        self.offset += length;
        self.remaining -= length;
        Poll::Ready(Some(Ok(Bytes::from_owner(chunk))))
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
