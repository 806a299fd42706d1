//! A process that does nothing, for a scope that is made before the container's first process is: systemd makes none
//! without a process, and takes one away that has none left.
//!
//! Invariant: it ends with its parent at the latest.

use std::os::fd::{AsFd, OwnedFd};

use carrack_sys::IoContext;
use carrack_sys::process::{Cloned, clone_process, send_signal, wait_forever, wait_pidfd};
use rustix::process::{Pid, Signal, set_parent_process_death_signal};

use crate::Result;

/// Ended when dropped.
#[derive(Debug)]
pub struct Placeholder {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Placeholder {
    /// The caller has one thread.
    pub fn start() -> Result<Self> {
        match clone_process(0, None).during("clone", "a process for the scope")? {
            Cloned::Child => {
                if set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
                    std::process::exit(1);
                }
                wait_forever()
            }
            Cloned::Parent { pid, pidfd } => Ok(Self { pid, pidfd }),
        }
    }

    pub fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        let _ = send_signal(self.pidfd.as_fd(), Signal::KILL.as_raw());
        let _ = wait_pidfd(self.pidfd.as_fd());
    }
}
