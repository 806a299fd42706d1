//! The container's standard input.
//!
//! Invariant: at most one piece is held; while it is, no other is taken from clients.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use carrack_sys::IoContext;
use rustix::io::{Errno, ioctl_fionbio, write};

use crate::Result;

/// The monitor's end of the input; without a descriptor, input is thrown away.
pub(super) struct Input {
    fd: Option<OwnedFd>,
    is_console: bool,
    pending: Vec<u8>,
    has_ended: bool,
}

impl Input {
    pub(super) fn new(fd: Option<OwnedFd>, is_console: bool) -> Result<Self> {
        if let Some(fd) = &fd {
            ioctl_fionbio(fd, true).during("make non-blocking", "the input of the container")?;
        }
        Ok(Self { fd, is_console, pending: Vec::new(), has_ended: false })
    }

    /// The descriptor, when the container leaves no room for what is held.
    pub(super) fn blocked_fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().filter(|_| !self.pending.is_empty()).map(AsFd::as_fd)
    }

    /// Passes a piece on, or holds it.
    pub(super) fn take(&mut self, data: &[u8]) {
        if self.fd.is_some() && !self.has_ended {
            self.pending.extend_from_slice(data);
            self.flush();
        }
    }

    /// Closes the input behind what is held. A terminal has no end of its own.
    pub(super) fn finish(&mut self) {
        if !self.is_console {
            self.has_ended = true;
            self.flush();
        }
    }

    /// Passes on what is held, as far as there is room.
    pub(super) fn flush(&mut self) {
        while let (Some(fd), false) = (&self.fd, self.pending.is_empty()) {
            match write(fd, &self.pending) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // The container has closed its input.
                Err(_) => self.close(),
            }
        }
        if self.has_ended {
            self.close();
        }
    }

    fn close(&mut self) {
        self.fd = None;
        self.pending = Vec::new();
    }
}
