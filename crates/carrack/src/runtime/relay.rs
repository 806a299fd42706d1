//! The user's side of a program that `run` or `exec` waits for: signals go to it, and its terminal is joined with ours.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use carrack_engine::SignalFd;
use carrack_engine::runtime::Running;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use rustix::termios::{tcgetwinsize, tcsetwinsize};

use crate::failure::{Failure, Result};
use crate::terminal::RawMode;

/// A program that is waited for.
pub struct Attended {
    pub running: Running,
    /// The master of its terminal.
    pub console: Option<OwnedFd>,
}

const FORWARDED: [Signal; 7] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2, Signal::WINCH];

/// Keeps the signals that go to the program. Taken before it is started: one that comes as soon as it runs would end
/// this process.
pub fn take_signals() -> Result<SignalFd> {
    SignalFd::new(&FORWARDED.map(Signal::as_raw)).map_err(failed)
}

/// Stays with the program until its end; returns its exit code.
pub fn attend(attended: Attended, mut signals: SignalFd) -> Result<u8> {
    let Attended { mut running, console } = attended;
    let stdin = io::stdin();
    let mut console = console.map(File::from);
    let is_terminal = console.is_some() && stdin.is_terminal();
    let _raw = if is_terminal { Some(RawMode::enter(stdin.as_fd())?) } else { None };
    resize(console.as_ref());
    let mut reads_stdin = console.is_some();
    loop {
        let mut watched = vec![
            PollFd::from_borrowed_fd(running.pidfd(), PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        if let Some(master) = &console {
            watched.push(PollFd::from_borrowed_fd(master.as_fd(), PollFlags::IN));
            if reads_stdin {
                watched.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
            }
        }
        match poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result.map_err(|error| failed(error.into()))?,
        };
        let ready: Vec<bool> = watched.iter().map(|one| !one.revents().is_empty()).collect();
        let is_ready = |place: usize| ready.get(place).copied().unwrap_or(false);
        if is_ready(1) {
            forward(&mut signals, &running, console.as_ref())?;
        }
        if let Some(master) = &mut console {
            if is_ready(3) {
                reads_stdin = copy(&mut stdin.lock(), master);
            }
            if is_ready(2) && !copy(master, &mut io::stdout()) {
                console = None;
                continue;
            }
        }
        if is_ready(0) && !is_ready(2) {
            let code = running.wait()?.code();
            return Ok(u8::try_from(code).unwrap_or(255));
        }
    }
}

fn failed(error: io::Error) -> Failure {
    Failure::message(format!("cannot stay with the program: {error}"))
}

/// One piece; whether there may be more.
fn copy(from: &mut impl Read, to: &mut impl Write) -> bool {
    let mut buffer = [0; 8192];
    // A terminal whose other side was closed says EIO.
    let Ok(count @ 1..) = from.read(&mut buffer) else { return false };
    to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_ok()
}

fn forward(signals: &mut SignalFd, running: &Running, console: Option<&File>) -> Result<()> {
    while let Ok(Some(signal)) = signals.take() {
        if signal == Signal::WINCH.as_raw() {
            resize(console);
        } else {
            running.kill(signal)?;
        }
    }
    Ok(())
}

fn resize(console: Option<&File>) {
    if let Some(master) = console
        && let Ok(size) = tcgetwinsize(io::stdin())
    {
        let _ = tcsetwinsize(master, size);
    }
}
