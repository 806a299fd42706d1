//! Waiting for a change in a folder: inotify where the kernel gives one, else short naps.
//!
//! Invariant: a change that happens after [`Watch::new`] ends the next wait; no wait is longer than its limit.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// The wait where inotify is used up (`fs.inotify.max_user_instances`).
const NAP: Duration = Duration::from_millis(20);

/// A watched folder.
pub(crate) struct Watch {
    inotify: Option<OwnedFd>,
}

impl Watch {
    /// Watches the files of `folder`: written to, created, renamed, removed.
    pub(crate) fn new(folder: &Path) -> Self {
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .and_then(|inotify| inotify::add_watch(&inotify, folder, flags).map(|_| inotify))
            .ok();
        Self { inotify }
    }

    /// Waits for a change, for `also` to become readable, or for `limit`.
    pub(crate) fn wait(&self, also: Option<BorrowedFd<'_>>, limit: Duration) {
        let limit = if self.inotify.is_some() { limit } else { limit.min(NAP) };
        let timeout = Timespec::try_from(limit).expect("a limit of seconds fits");
        let fds = [self.inotify.as_ref().map(AsFd::as_fd), also];
        let mut polled: Vec<_> =
            fds.into_iter().flatten().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        // A signal ends the wait early, which every caller takes as a reason to look again.
        let _ = poll(&mut polled, Some(&timeout));
        self.forget_changes();
    }

    fn forget_changes(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        if let Some(inotify) = &self.inotify {
            let mut reader = inotify::Reader::new(inotify, &mut buffer);
            while reader.next().is_ok() {}
        }
    }
}
