//! The process 1 of `--init`: forwards signals to the program, takes the status of orphans, and ends with the
//! program's status.

use std::convert::Infallible;

use carrack_sys::IoContext;
use carrack_sys::process as sys;
use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::Result;
use crate::channel::Channel;

/// Which of the two processes goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    /// The one that becomes the program.
    Program,
    /// Process 1, with the id of the program.
    Reaper(Pid),
}

/// Splits process 1 into reaper and program.
pub(crate) fn split() -> std::io::Result<Side> {
    // Blocked before the fork, so that no signal is lost between the two.
    sys::block_signals()?;
    if let Some(child) = sys::fork_single_threaded()? {
        return Ok(Side::Reaper(child));
    }
    // An own process group in the foreground: ^C reaches the program once, not also through the reaper.
    rustix::process::setpgid(None, None)?;
    match rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid()) {
        Ok(()) | Err(rustix::io::Errno::NOTTY | rustix::io::Errno::BADF) => {}
        Err(error) => return Err(error.into()),
    }
    sys::reset_signals()?;
    Ok(Side::Program)
}

/// Never returns but by an error; the process ends with the status of `child`.
pub(crate) fn run(child: Pid, _channel: &Channel) -> Result<Infallible> {
    // All of them: a pipe held here would look to the reader as if the program still wrote to it. The channel is
    // among them, and nothing of this process uses a descriptor from here on.
    sys::close_from(0).during("close", "the descriptors")?;
    loop {
        let signal = sys::wait_signal().during("wait for", "a signal")?;
        if signal == SIGCHLD {
            reap(child);
        } else {
            let _ = sys::send_signal_to_child(child, signal);
        }
    }
}

const SIGCHLD: i32 = rustix::process::Signal::CHILD.as_raw();

fn reap(child: Pid) {
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == child {
            std::process::exit(exit_code(status));
        }
    }
}

fn exit_code(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(1)
}
