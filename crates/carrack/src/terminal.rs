//! The user's side of a session with a container: raw mode, window size, signals, and the exit code.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

use carrack_engine::{DetachKeys, Ended, Relay, Request, Session, SignalFd, Signals};
use rustix::process::Signal;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::failure::{Failure, Result};

/// Signals that are meant for the container when it has no terminal of its own.
const FORWARDED: [Signal; 6] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];

/// Those of them that ask this command for an end.
const ENDING: [Signal; 3] = [Signal::INT, Signal::QUIT, Signal::TERM];

/// How a user takes part in a session.
pub struct Attendance {
    /// Standard input goes to the program.
    pub interactive: bool,
    /// The program's standard output, or what its terminal shows, goes to ours.
    pub stdout: bool,
    /// The program's standard error goes to ours.
    pub stderr: bool,
    /// The program has a terminal.
    pub tty: bool,
    /// Keys that leave the session; `None` means Docker's.
    pub detach_keys: Option<DetachKeys>,
    /// Signals to this process go to the program, when it has no terminal.
    pub proxy_signals: bool,
}

impl Attendance {
    /// As `docker run` has it when no flag says otherwise.
    pub fn new(interactive: bool, tty: bool) -> Self {
        Self { interactive, stdout: true, stderr: true, tty, detach_keys: None, proxy_signals: true }
    }

    /// Refuses a terminal where standard input is none; before anything is made or started.
    pub fn check(&self) -> Result<()> {
        match self.tty && self.interactive && !io::stdin().is_terminal() {
            true => Err(Failure::message("the input device is not a terminal: -t with -i needs one")),
            false => Ok(()),
        }
    }

    /// Keeps the signals that are meant for the program. Done before it is started: one that comes as soon as it runs
    /// would end this process.
    pub fn begin(self) -> Result<Attendant> {
        self.check()?;
        let mut watched = vec![Signal::WINCH.as_raw()];
        if !self.tty && self.proxy_signals {
            watched.extend(FORWARDED.map(Signal::as_raw));
        }
        let failed = |error| Failure::message(format!("cannot take signals: {error}"));
        let signals = SignalFd::new(&watched).map_err(failed)?;
        Ok(Attendant { signals, attendance: self, early: Vec::new() })
    }
}

/// A user who is ready for a session.
pub struct Attendant {
    attendance: Attendance,
    signals: SignalFd,
    /// Signals that came before the program ran.
    early: Vec<i32>,
}

impl Attendant {
    /// Waits for the start of a program, which is then to get the signals that come meanwhile. As in Docker, the third
    /// of those that ask for an end ends the wait: a start may hang in a hook.
    pub fn while_starting<'s>(
        &mut self,
        start: impl FnOnce(Signals<'_>) -> carrack_engine::Result<Session<'s>>,
    ) -> Result<Session<'s>> {
        let Self { signals, early, .. } = self;
        let ready =
            signals.as_fd().try_clone_to_owned().map_err(|error| Failure::message(error.to_string()))?;
        let mut take = || {
            while let Some(signal) = signals.take()? {
                early.push(signal);
            }
            let asks = early.iter().filter(|signal| ENDING.iter().any(|ending| ending.as_raw() == **signal));
            match asks.count() {
                0..3 => Ok(None),
                _ => Err(io::Error::other("interrupted; the program may start yet")),
            }
        };
        Ok(start(Signals { ready: ready.as_fd(), take: &mut take })?)
    }
}

/// Connects the user with a session until it ends; returns the exit code for this process.
pub fn attend(session: &Session, attendant: Attendant) -> Result<u8> {
    let Attendant { attendance, mut signals, early } = attendant;
    let Attendance { interactive, stdout, stderr, tty, detach_keys, .. } = attendance;
    let interactive = interactive && !session.passes_streams();
    let stdin = io::stdin();
    let _raw = if tty && interactive { Some(RawMode::enter(stdin.as_fd())?) } else { None };
    if tty && let Some((rows, columns)) = window_size() {
        session.resize(rows, columns);
    }
    for signal in early.into_iter().filter(|signal| *signal != Signal::WINCH.as_raw()) {
        // The container may just have ended; then its exit code is on its way.
        let _ = session.signal(signal);
    }
    let ready = signals.as_fd().try_clone_to_owned().map_err(|error| Failure::message(error.to_string()))?;
    let mut take = || {
        while let Some(signal) = signals.take()? {
            if signal == Signal::WINCH.as_raw() {
                return Ok(window_size().map(|(rows, columns)| {
                    session.tell_resize(rows, columns);
                    Request::Resize { rows, columns }
                }));
            }
            let _ = session.signal(signal);
        }
        Ok(None)
    };
    let keys = detach_keys.unwrap_or_default();
    let ended = session.client().relay(Relay {
        stdin: interactive.then(|| stdin.as_fd()),
        stdout: stdout.then(rustix::stdio::stdout),
        stderr: stderr.then(rustix::stdio::stderr),
        detach_keys: (tty && interactive).then_some(&keys),
        signals: Some(Signals { ready: ready.as_fd(), take: &mut take }),
    });
    exit_code(session, ended.map_err(carrack_engine::Error::from)?)
}

fn exit_code(session: &Session, ended: Ended) -> Result<u8> {
    match ended {
        Ended::Exited { code } => Ok(u8::try_from(code).unwrap_or(255)),
        Ended::Failed { code, message } => {
            Err(Failure::with_exit_code(message, u8::try_from(code).unwrap_or(125)))
        }
        Ended::Detached => {
            session.tell_detach();
            Ok(0)
        }
        Ended::Lost => {
            Err(Failure::message(format!("{} was lost: its monitor ended without a report", session.title())))
        }
    }
}

/// Rows and columns.
fn window_size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(rustix::stdio::stdout()).ok()?;
    Some((size.ws_row, size.ws_col))
}

/// The terminal without line editing, echo and signal keys; it is put back when this is dropped.
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Changes `terminal`.
    pub fn enter(terminal: BorrowedFd<'_>) -> Result<Self> {
        let failed =
            |error: rustix::io::Errno| Failure::message(format!("cannot set up the terminal: {error}"));
        let before = tcgetattr(terminal).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
