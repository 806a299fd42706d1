//! The monitor: the loop of the process that stays with a running container.
//!
//! It moves output into the log and to attached clients, input and terminal sizes back, and learns how the program
//! ends. Invariants:
//!
//! - **Output reaches the log first**, and nothing is read that cannot be kept, so no client can lose a line of it.
//! - **Memory is constant**: while a client has no room for the last piece of output, no more is read, and the pipe
//!   makes the program wait. Only a client that was there from the start may do so without end; one that attached
//!   later is dropped after [`PATIENCE`].
//! - **The end is never held up**: once the program has ended, what is left in the pipes is read at once, whatever
//!   clients do. A process that outlived it and keeps a pipe open is waited for as long as it writes, but at most
//!   [`DRAIN_LIMIT`] and [`DRAIN_BYTES`]. Clients get the rest from [`Finished::announce`], when the caller has
//!   written down how the program ended.

mod chore;
mod clients;
mod input;
mod source;

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use carrack_sys::IoContext;
use carrack_sys::memory::poll_at_rest;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use rustix::termios::{Winsize, tcsetwinsize};

pub use self::chore::Chore;
use self::chore::Turns;
use self::clients::Clients;
use self::input::Input;
use self::source::{Read, Source};
use crate::attach::{Event, Listener, MAX_DATA_BYTES, Peer, Request};
use crate::log::{LogSink, Stream};
use crate::{Error, Exit, Result};

/// How long a client that attached later may leave output unread.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long after the program's end an open pipe is read without getting anything.
const DRAIN_QUIET: Duration = Duration::from_millis(500);
/// How long after the program's end an open pipe is read at all.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How much is read from a pipe after the program's end: the most that a pipe holds.
pub const DRAIN_BYTES: usize = 1 << 20;
/// How long the monitor has nothing to do until it gives back the memory that doing something took.
const REST_AFTER: Duration = Duration::from_secs(1);
/// How soon a client is accepted after the descriptors of this process were used up.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// The container's ends of its standard streams.
#[derive(Debug)]
pub enum Stdio {
    /// They go past the monitor.
    Passed,
    /// Three pipes.
    Pipes {
        /// Written to; `None` when the container has no input.
        stdin: Option<OwnedFd>,
        /// Read from.
        stdout: OwnedFd,
        /// Read from.
        stderr: OwnedFd,
    },
    /// The master of a pseudo-terminal.
    Console(OwnedFd),
}

/// What a monitor works with.
#[derive(Debug)]
pub struct Monitor {
    /// A pidfd of the container's first process, a child of this process that nobody has waited for.
    pub init: OwnedFd,
    /// Its standard streams.
    pub stdio: Stdio,
    /// Whether its input ends with the input of a client.
    pub stdin_once: bool,
    /// Where output is kept.
    pub log: Option<LogSink>,
    /// Where clients come from.
    pub listener: Option<Listener>,
    /// The client that started the container, attached to everything.
    pub foreground: Option<Peer>,
    /// Whether the program is killed when a client that may send input is lost: nobody else wants its result.
    pub ends_with_client: bool,
    /// What is done now and then beside.
    pub chore: Option<Chore>,
    /// How long the program may run before it is killed.
    pub time_limit: Option<Duration>,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub exit: Exit,
    /// Why output is missing in the log, if any is: the first error of writing it.
    pub log_error: Option<Error>,
    clients: Clients,
}

impl Finished {
    /// Sends the rest of the output and the exit code to the clients; returns when each has it or is gone.
    pub fn announce(mut self) {
        self.clients.publish(&Event::Exited { code: self.exit.code() }.encode());
        self.clients.deliver_rest();
    }
}

impl Monitor {
    /// Stays with the container until its program has ended and its output is drained.
    pub fn run(self) -> Result<Finished> {
        let mut session = Session::new(self)?;
        while !session.is_over() {
            for (token, flags) in session.wait()? {
                session.attend(token, flags)?;
            }
            session.part_from_clients();
            if session.exit.is_none() {
                session.turns.begin_if_due();
                session.kill_if_due();
            }
        }
        session.finish()
    }
}

/// What a descriptor in the poll set belongs to.
#[derive(Clone, Copy)]
enum Token {
    Init,
    Source(usize),
    Stdin,
    Listener,
    Client(usize),
    Chore,
}

struct Session {
    init: OwnedFd,
    exit: Option<(Exit, Drain)>,
    sources: Vec<Source>,
    input: Input,
    stdin_once: bool,
    ends_with_client: bool,
    console: Option<OwnedFd>,
    log: Option<LogSink>,
    log_error: Option<Error>,
    listener: Option<Listener>,
    accept_at: Option<Instant>,
    clients: Clients,
    buffer: Vec<u8>,
    /// When the program's own pages are given back unless something happens; `None` when they have been.
    rest_at: Option<Instant>,
    turns: Turns,
    /// When the program is killed; `None` when it has been.
    kill_at: Option<Instant>,
}

/// The time after the program's end.
struct Drain {
    quiet_at: Instant,
    over_at: Instant,
}

impl Session {
    fn new(monitor: Monitor) -> Result<Self> {
        let (sources, input, console) = match monitor.stdio {
            Stdio::Passed => (Vec::new(), Input::new(None, false)?, None),
            Stdio::Pipes { stdin, stdout, stderr } => {
                let sources =
                    vec![Source::pipe(stdout, Stream::Stdout)?, Source::pipe(stderr, Stream::Stderr)?];
                (sources, Input::new(stdin, false)?, None)
            }
            Stdio::Console(master) => {
                let copy = || master.try_clone().during("duplicate", "the console");
                (vec![Source::console(copy()?)?], Input::new(Some(copy()?), true)?, Some(master))
            }
        };
        Ok(Self {
            init: monitor.init,
            exit: None,
            sources,
            input,
            stdin_once: monitor.stdin_once,
            ends_with_client: monitor.ends_with_client,
            console,
            log: monitor.log,
            log_error: None,
            listener: monitor.listener,
            accept_at: None,
            clients: Clients::new(monitor.foreground),
            buffer: vec![0; 1 + MAX_DATA_BYTES + 1],
            rest_at: Some(Instant::now() + REST_AFTER),
            turns: Turns::new(monitor.chore),
            kill_at: monitor.time_limit.map(|limit| Instant::now() + limit),
        })
    }

    fn is_over(&self) -> bool {
        let Some((_, drain)) = &self.exit else { return false };
        let now = Instant::now();
        self.sources.iter().all(Source::is_closed) || now >= drain.quiet_at || now >= drain.over_at
    }

    /// Waits for something to happen.
    ///
    /// Keeps little memory resident: what was touched in starting the container, and since, is given back after a
    /// while without events, and now and then in a flood of them. All is prepared before, so that what follows touches
    /// next to nothing.
    fn wait(&mut self) -> Result<Vec<(Token, PollFlags)>> {
        let now = Instant::now();
        let is_flooded = self.rest_at.is_some_and(|at| at <= now);
        let mut tokens = Vec::new();
        let mut polled = Vec::new();
        let mut add = |token, fd, flags| {
            tokens.push(token);
            polled.push(PollFd::from_borrowed_fd(fd, flags));
        };
        if self.exit.is_none() {
            add(Token::Init, self.init.as_fd(), PollFlags::IN);
        }
        if self.may_read() {
            for (index, source) in self.sources.iter().enumerate() {
                if let Some(fd) = source.readable_fd(now) {
                    add(Token::Source(index), fd, PollFlags::IN);
                }
            }
        }
        let input_is_blocked = self.input.blocked_fd().is_some();
        if let Some(fd) = self.input.blocked_fd() {
            add(Token::Stdin, fd, PollFlags::OUT);
        }
        if let Some(listener) = &self.listener
            && self.accept_at.is_none_or(|at| now >= at)
        {
            add(Token::Listener, listener.as_fd(), PollFlags::IN);
        }
        for (index, client) in self.clients.iter().enumerate() {
            // Input that has nowhere to go stays with its client; that the client hangs up is told in any case.
            let wanted =
                if input_is_blocked && client.holds_input { PollFlags::empty() } else { PollFlags::IN };
            let owed = if self.clients.is_behind(client) { PollFlags::OUT } else { PollFlags::empty() };
            add(Token::Client(index), client.peer.as_fd(), wanted | owed);
        }
        if let Some(fd) = self.turns.fd() {
            add(Token::Chore, fd, PollFlags::IN);
        }
        let until = |at: Option<Instant>| {
            let left = at.map(|at| at.saturating_duration_since(Instant::now()));
            left.map(|limit| Timespec::try_from(limit).expect("a limit of seconds fits"))
        };
        let deadline = self.next_deadline(now);
        let timeout = until(deadline);
        let rest = self.rest_at.filter(|at| deadline.is_none_or(|deadline| *at < deadline));
        if is_flooded {
            self.rest_at = None;
        }
        let mut polled_events = match rest {
            // The time of rest is short beside any other limit.
            _ if is_flooded => poll_at_rest(&mut polled, timeout.as_ref()),
            Some(at) => match poll(&mut polled, until(Some(at)).as_ref()) {
                Ok(0) => {
                    let happened = poll_at_rest(&mut polled, until(deadline).as_ref());
                    self.rest_at = None;
                    happened
                }
                happened => happened,
            },
            None => poll(&mut polled, timeout.as_ref()),
        };
        if polled_events == Err(Errno::INTR) {
            polled_events = Ok(0);
        }
        if polled_events.during("wait for", "the container")? == 0 {
            return Ok(Vec::new());
        }
        let flags = polled.iter().map(PollFd::revents);
        let happened = tokens.into_iter().zip(flags).filter(|(_, flags)| !flags.is_empty()).collect();
        self.rest_at.get_or_insert_with(|| Instant::now() + REST_AFTER);
        Ok(happened)
    }

    /// Whether there is room for more output: clients have all of it, or it must be read now or never.
    fn may_read(&self) -> bool {
        self.exit.is_some() || self.clients.have_everything()
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let drain = self.exit.as_ref().map(|(_, drain)| drain.quiet_at.min(drain.over_at));
        let consoles = self.sources.iter().filter_map(|source| source.closed_until(now));
        let accept = self.accept_at.filter(|at| *at > now);
        consoles
            .chain(drain)
            .chain(accept)
            .chain(self.clients.next_deadline())
            .chain(self.turns.next_at())
            .chain(self.kill_at)
            .min()
    }

    fn attend(&mut self, token: Token, flags: PollFlags) -> Result<()> {
        match token {
            Token::Init => self.reap(),
            Token::Source(index) => {
                self.read(index);
                Ok(())
            }
            Token::Stdin => {
                self.input.flush();
                Ok(())
            }
            Token::Listener => {
                self.accept();
                Ok(())
            }
            Token::Client(index) => {
                self.attend_client(index, flags);
                Ok(())
            }
            Token::Chore => {
                self.turns.end();
                Ok(())
            }
        }
    }

    fn reap(&mut self) -> Result<()> {
        let status =
            waitid(WaitId::PidFd(self.init.as_fd()), WaitIdOptions::EXITED).during("wait for", "the init")?;
        let Some(status) = status else { return Ok(()) };
        let exit = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        };
        let now = Instant::now();
        self.exit = Some((exit, Drain { quiet_at: now + DRAIN_QUIET, over_at: now + DRAIN_LIMIT }));
        Ok(())
    }

    /// Moves one piece of output; whether there was one.
    fn read(&mut self, index: usize) -> bool {
        let source = &mut self.sources[index];
        let length = match source.read(&mut self.buffer, self.exit.is_some()) {
            Read::Packet(length) => length,
            Read::Nothing => return false,
        };
        if let Some((_, drain)) = &mut self.exit {
            drain.quiet_at = Instant::now() + DRAIN_QUIET;
        }
        let packet = &self.buffer[..length];
        if let Some(log) = &mut self.log
            && let Err(error) = log.write(source.stream(), &packet[1..])
        {
            self.log_error.get_or_insert(error);
        }
        self.clients.publish(packet);
        true
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        match listener.accept() {
            Ok(Some(peer)) => self.clients.add(peer),
            Ok(None) => {}
            // No descriptors left: without a pause the loop would spin on the client that cannot be accepted.
            Err(_) => self.accept_at = Some(Instant::now() + ACCEPT_AGAIN),
        }
    }

    fn attend_client(&mut self, index: usize, flags: PollFlags) {
        if flags.contains(PollFlags::OUT) {
            self.clients.deliver(index);
        }
        if flags.difference(PollFlags::OUT).is_empty() {
            return;
        }
        if self.input.blocked_fd().is_some() && self.clients.hold_input(index, flags) {
            return;
        }
        match self.clients.receive(index, &mut self.buffer) {
            None => {}
            Some(Request::Stdin(data)) => self.input.take(data),
            Some(Request::StdinEnd) if self.stdin_once => self.input.finish(),
            Some(Request::Resize { rows, columns }) => {
                if let Some(console) = &self.console {
                    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                    // A terminal that is gone has no size.
                    let _ = tcsetwinsize(console, size);
                }
            }
            Some(Request::Attach(_) | Request::Start | Request::Detach | Request::StdinEnd) => {}
        }
    }

    fn kill_if_due(&mut self) {
        if self.kill_at.is_some_and(|at| Instant::now() >= at) {
            self.kill_at = None;
            // A program that is gone already is reaped next.
            let _ = pidfd_send_signal(&self.init, Signal::KILL);
        }
    }

    /// Forgets clients that are gone or take no output; with one that sent input, that input has ended.
    fn part_from_clients(&mut self) {
        if !self.clients.part() {
            return;
        }
        if self.stdin_once {
            self.input.finish();
        }
        if self.ends_with_client && self.exit.is_none() {
            // A program that is gone already is reaped next.
            let _ = pidfd_send_signal(&self.init, Signal::KILL);
        }
    }

    fn finish(mut self) -> Result<Finished> {
        let (exit, _) = self.exit.take().expect("the loop ends after the exit");
        self.exit = Some((exit, Drain { quiet_at: Instant::now(), over_at: Instant::now() }));
        for index in 0..self.sources.len() {
            // A disk that was slow may have eaten the time: what is in the pipe is still read.
            while !self.sources[index].is_closed() && self.read(index) {}
            let stream = self.sources[index].stream();
            if let Some(Err(error)) = self.log.as_mut().map(|log| log.finish(stream)) {
                self.log_error.get_or_insert(error);
            }
        }
        Ok(Finished { exit, log_error: self.log_error, clients: self.clients })
    }
}
