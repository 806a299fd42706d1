//! Work that a monitor has done now and then while its program runs, each time by a process of its own, so that the
//! loop neither waits for it nor grows by it: health checks.
//!
//! Invariant: at most one such process runs, and none is left when the monitor is done with its program.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Something to be done again and again.
pub struct Chore {
    /// How long after the start it is done first.
    pub first: Duration,
    /// Starts a process that does it.
    pub start: Box<dyn FnMut() -> io::Result<Child> + Send>,
    /// How long after its end it is done again, by the exit code of that process; `None` for one that was killed or
    /// did not start.
    pub pause: Box<dyn Fn(Option<i32>) -> Duration + Send>,
}

impl fmt::Debug for Chore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Chore").field("first", &self.first).finish_non_exhaustive()
    }
}

/// The turns of a chore.
pub(super) struct Turns {
    chore: Option<Chore>,
    next_at: Option<Instant>,
    running: Option<(Child, OwnedFd)>,
}

impl Turns {
    pub(super) fn new(chore: Option<Chore>) -> Self {
        let next_at = chore.as_ref().map(|chore| Instant::now() + chore.first);
        Self { chore, next_at, running: None }
    }

    /// When the next turn begins, if none is under way.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    /// Readable when a turn has ended.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|(_, pidfd)| pidfd.as_fd())
    }

    pub(super) fn begin_if_due(&mut self) {
        let Some(chore) = &mut self.chore else { return };
        if self.next_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        let started = (chore.start)().and_then(|mut child| {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
            match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(pidfd) => Ok((child, pidfd)),
                Err(error) => {
                    end(&mut child);
                    Err(error.into())
                }
            }
        });
        match started {
            Ok(running) => (self.running, self.next_at) = (Some(running), None),
            // No room for a process now: the next turn may do better.
            Err(_) => self.next_at = Some(Instant::now() + (chore.pause)(None)),
        }
    }

    /// Takes the result of a turn that has ended.
    pub(super) fn end(&mut self) {
        let (Some((mut child, _)), Some(chore)) = (self.running.take(), &self.chore) else { return };
        let code = child.wait().ok().and_then(|status| status.code());
        self.next_at = Some(Instant::now() + (chore.pause)(code));
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.running {
            end(child);
        }
    }
}

/// Ends a process that nobody needs any more; the monitor may live on, and must keep no zombie.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
