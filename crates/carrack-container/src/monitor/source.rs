//! One stream of output, and when it is at its end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use carrack_sys::IoContext;
use rustix::io::{Errno, ioctl_fionbio, read};

use super::DRAIN_BYTES;
use crate::Result;
use crate::attach::{MAX_DATA_BYTES, STDERR, STDOUT};
use crate::log::Stream;

/// How soon a terminal is looked at again that no process has open: the program may open it anew, as `getty` does.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The monitor's end of a pipe or terminal.
pub(super) struct Source {
    fd: OwnedFd,
    stream: Stream,
    is_console: bool,
    status: Status,
    read_after_exit_bytes: usize,
}

enum Status {
    Open,
    HungUpUntil(Instant),
    Closed,
}

/// What a read gave.
pub(super) enum Read {
    /// A packet of the attach protocol of this length.
    Packet(usize),
    /// Nothing now, or nothing any more.
    Nothing,
}

impl Source {
    pub(super) fn pipe(fd: OwnedFd, stream: Stream) -> Result<Self> {
        Self::new(fd, stream, false)
    }

    pub(super) fn console(master: OwnedFd) -> Result<Self> {
        Self::new(master, Stream::Stdout, true)
    }

    fn new(fd: OwnedFd, stream: Stream, is_console: bool) -> Result<Self> {
        ioctl_fionbio(&fd, true).during("make non-blocking", "the output of the container")?;
        Ok(Self { fd, stream, is_console, status: Status::Open, read_after_exit_bytes: 0 })
    }

    pub(super) fn stream(&self) -> Stream {
        self.stream
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.status, Status::Closed)
    }

    /// The descriptor, if it is worth waiting for.
    pub(super) fn readable_fd(&self, now: Instant) -> Option<BorrowedFd<'_>> {
        match self.status {
            Status::Closed => None,
            Status::HungUpUntil(_) if self.closed_until(now).is_some() => None,
            Status::HungUpUntil(_) | Status::Open => Some(self.fd.as_fd()),
        }
    }

    /// When to look again at a terminal that nobody has open.
    pub(super) fn closed_until(&self, now: Instant) -> Option<Instant> {
        match self.status {
            Status::HungUpUntil(until) if until > now => Some(until),
            _ => None,
        }
    }

    /// Reads a piece of output into `buffer`, as a packet.
    pub(super) fn read(&mut self, buffer: &mut [u8], exited: bool) -> Read {
        let length = loop {
            match read(&self.fd, &mut buffer[1..=MAX_DATA_BYTES]) {
                Ok(length) => break length,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Read::Nothing,
                // What a terminal says when no process has it open.
                Err(Errno::IO) if self.is_console && !exited => {
                    self.status = Status::HungUpUntil(Instant::now() + LOOK_AGAIN);
                    return Read::Nothing;
                }
                Err(_) => break 0,
            }
        };
        if length == 0 {
            self.status = Status::Closed;
            return Read::Nothing;
        }
        self.status = Status::Open;
        if exited {
            self.read_after_exit_bytes += length;
            if self.read_after_exit_bytes >= DRAIN_BYTES {
                self.status = Status::Closed;
            }
        }
        buffer[0] = match self.stream {
            Stream::Stdout => STDOUT,
            Stream::Stderr => STDERR,
        };
        Read::Packet(1 + length)
    }
}
