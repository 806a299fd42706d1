//! The user's end of a connection: terminal or pipes on one side, the monitor on the other.
//!
//! Invariant: waiting for room in one direction never stops the other, so a container that echoes its input cannot
//! lock itself and the user up.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use carrack_sys::IoContext;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::keys::KeyScanner;
use super::message::{Event, MAX_DATA_BYTES, MAX_PACKET_BYTES, Request};
use super::socket::{connect_to, send_packet};
use super::{DetachKeys, Streams};
use crate::{Error, Result};

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The program ended with this code.
    Exited {
        /// 0 to 255.
        code: i32,
    },
    /// The program could not be started.
    Failed {
        /// What the command is to exit with: 125, 126 or 127.
        code: i32,
        /// Why.
        message: String,
    },
    /// The user typed the detach keys.
    Detached,
    /// The monitor went away without a word; the state in the store tells what became of the container.
    Lost,
}

/// Signals for the command, as a descriptor that becomes readable (a signalfd, a pipe) and what to do then.
pub struct Signals<'a> {
    /// Readable when there is something to do.
    pub ready: BorrowedFd<'a>,
    /// Takes what made it readable; returns what the monitor is to be told, such as the terminal's new size.
    pub take: &'a mut dyn FnMut() -> io::Result<Option<Request<'static>>>,
}

/// What a session connects.
pub struct Relay<'a> {
    /// Where input comes from; `None` sends none and leaves the container's input open.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Where standard output goes.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Where standard error goes.
    pub stderr: Option<BorrowedFd<'a>>,
    /// Keys in the input that end the session; for terminals.
    pub detach_keys: Option<&'a DetachKeys>,
    /// Signals to attend to.
    pub signals: Option<Signals<'a>>,
}

/// A connection to a monitor.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Client {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Attaches to the container with this run folder; `None` when no monitor is there.
    pub fn connect(run_folder: &Path, streams: Streams) -> Result<Option<Self>> {
        Self::connect_saying(run_folder, &Request::Attach(streams))
    }

    /// Asks the monitor of a container that was initialized to start its program; `None` when no monitor is there.
    pub fn connect_to_start(run_folder: &Path) -> Result<Option<Self>> {
        Self::connect_saying(run_folder, &Request::Start)
    }

    fn connect_saying(run_folder: &Path, request: &Request<'_>) -> Result<Option<Self>> {
        match connect_to(run_folder, request) {
            Ok(socket) => Ok(Some(Self { socket })),
            Err(Error::System(error))
                if matches!(
                    error.source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for word of the start; `None` when the program runs, else how it ended before it ran. `signals` are attended
    /// to meanwhile, and may end the wait by an error.
    pub fn wait_started(&self, mut signals: Option<Signals<'_>>) -> Result<Option<Ended>> {
        while let Some(signals) = &mut signals {
            let ready = self.wait(&Input::default(), Some(signals.ready))?;
            if ready.socket_readable {
                break;
            }
            (signals.take)().during("wait for", "the start")?;
        }
        let mut packet = vec![0; MAX_PACKET_BYTES];
        match self.receive(&mut packet)? {
            Some(Event::Started) => Ok(None),
            Some(Event::Failed { code, message }) => {
                Ok(Some(Ended::Failed { code, message: message.to_owned() }))
            }
            None => Ok(Some(Ended::Lost)),
            Some(_) => Err(Error::Protocol { reason: "expected word of the start" }),
        }
    }

    /// Tells the monitor something; `false` when it is gone or has no room for it now.
    pub fn send(&self, request: &Request<'_>) -> bool {
        send_packet(self.socket.as_fd(), &request.encode()).is_ok()
    }

    /// Waits for the next event; `None` is the end of the connection.
    pub fn receive<'a>(&self, packet: &'a mut Vec<u8>) -> Result<Option<Event<'a>>> {
        packet.resize(MAX_PACKET_BYTES, 0);
        loop {
            match recv(&self.socket, &mut packet[..], RecvFlags::empty()) {
                Ok((_, 0)) => return Ok(None),
                Ok((_, length)) => return Event::decode(&packet[..length]).map(Some),
                // A monitor that ends with our input unread resets the connection. The kernel says so once, before
                // what the monitor still sent.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(error) => Err(error).during("read", "the attach socket")?,
            }
        }
    }

    /// Connects the user with the container until one of them ends the session.
    pub fn relay(&self, relay: Relay<'_>) -> Result<Ended> {
        let scanner = relay.detach_keys.map(KeyScanner::new);
        let Relay { stdin, stdout, stderr, mut signals, .. } = relay;
        let mut input = Input { source: stdin, scanner, unsent: None };
        let mut packet = Vec::new();
        loop {
            let ready = self.wait(&input, signals.as_ref().map(|signals| signals.ready))?;
            if ready.socket_readable {
                match self.receive(&mut packet)? {
                    None => return Ok(Ended::Lost),
                    Some(Event::Stdout(data)) => write_all(stdout, data)?,
                    Some(Event::Stderr(data)) => write_all(stderr, data)?,
                    Some(Event::Exited { code }) => return Ok(Ended::Exited { code }),
                    Some(Event::Failed { code, message }) => {
                        return Ok(Ended::Failed { code, message: message.to_owned() });
                    }
                    Some(Event::Started) => {}
                }
            }
            if ready.signals
                && let Some(signals) = &mut signals
                && let Some(request) = (signals.take)().during("take", "signals")?
            {
                self.send(&request);
            }
            if ready.input && input.forward(self)? {
                self.send(&Request::Detach);
                return Ok(Ended::Detached);
            }
        }
    }

    fn wait(&self, input: &Input<'_>, signals: Option<BorrowedFd<'_>>) -> Result<Ready> {
        let mut for_socket = PollFlags::IN;
        let mut polled = Vec::with_capacity(3);
        let from_stdin = match (&input.unsent, input.source) {
            (Some(_), _) => {
                for_socket |= PollFlags::OUT;
                None
            }
            (None, source) => source,
        };
        polled.push(PollFd::new(&self.socket, for_socket));
        let signals_at = signals.map(|fd| push(&mut polled, fd));
        let stdin_at = from_stdin.map(|fd| push(&mut polled, fd));
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => Err(error).during("wait for", "the attach socket")?,
        }
        let happened = |at: Option<usize>| at.is_some_and(|at| !polled[at].revents().is_empty());
        let socket = polled[0].revents();
        Ok(Ready {
            socket_readable: !socket.difference(PollFlags::OUT).is_empty(),
            signals: happened(signals_at),
            input: happened(stdin_at) || socket.contains(PollFlags::OUT),
        })
    }
}

fn push<'fd>(polled: &mut Vec<PollFd<'fd>>, fd: BorrowedFd<'fd>) -> usize {
    polled.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
    polled.len() - 1
}

struct Ready {
    socket_readable: bool,
    signals: bool,
    input: bool,
}

/// The user's input on its way to the monitor.
#[derive(Default)]
struct Input<'a> {
    source: Option<BorrowedFd<'a>>,
    scanner: Option<KeyScanner<'a>>,
    /// A packet for which the monitor had no room; nothing more is read until it has.
    unsent: Option<Vec<u8>>,
}

impl Input<'_> {
    /// Moves one packet; whether the user typed the detach keys.
    fn forward(&mut self, client: &Client) -> Result<bool> {
        if let Some(packet) = self.unsent.take() {
            self.send(client, packet);
            return Ok(false);
        }
        let Some(source) = self.source else { return Ok(false) };
        let mut buffer = [0u8; MAX_DATA_BYTES / 2];
        let length = match rustix::io::read(source, &mut buffer) {
            Ok(length) => length,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(false),
            // A terminal that has hung up.
            Err(Errno::IO) => 0,
            Err(error) => return Ok(Err(error).during("read", "the standard input")?),
        };
        if length == 0 {
            self.source = None;
            self.send(client, Request::StdinEnd.encode());
            return Ok(false);
        }
        let (data, detached) = match &mut self.scanner {
            None => (buffer[..length].to_vec(), false),
            Some(scanner) => {
                let mut passed = Vec::with_capacity(length);
                let detached = scanner.scan(&buffer[..length], &mut passed);
                (passed, detached)
            }
        };
        if !data.is_empty() {
            self.send(client, Request::Stdin(&data).encode());
        }
        Ok(detached)
    }

    fn send(&mut self, client: &Client, packet: Vec<u8>) {
        if send_packet(client.socket.as_fd(), &packet) == Err(Errno::AGAIN) {
            self.unsent = Some(packet);
        }
        // Other errors mean that the monitor is gone, which the next wait tells.
    }
}

/// Writes everything, also to a terminal that somebody has made non-blocking.
fn write_all(target: Option<BorrowedFd<'_>>, mut data: &[u8]) -> Result<()> {
    let Some(target) = target else { return Ok(()) };
    while !data.is_empty() {
        match rustix::io::write(target, data) {
            Ok(written) => data = &data[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(target, PollFlags::OUT)], None);
            }
            Err(error) => return Err(Error::Output { source: error.into() }),
        }
    }
    Ok(())
}
