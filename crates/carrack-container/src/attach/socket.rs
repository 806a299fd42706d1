//! Sockets of the attach protocol.
//!
//! Invariant: no operation here blocks but [`Peer::send`], and that one only for a bounded time.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use carrack_sys::memory::poll_at_rest;
use carrack_sys::{IoContext, atomic};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recv, send, socket_with, socketpair,
};

use super::message::{Event, MAX_PACKET_BYTES, is_input};
use super::{Client, Request};
use crate::Result;

const NAME: &str = "attach";
const BACKLOG: i32 = 64;
/// How long a client of a container that was initialized may take to say what it wants.
const FIRST_WORD: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// How soon a client is accepted after the descriptors of this process were used up.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Where clients connect to a monitor.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
}

impl Listener {
    /// Listens in a container's run folder, in place of a monitor that is gone.
    pub fn bind(run_folder: &Path) -> Result<Self> {
        let path = run_folder.join(NAME);
        atomic::remove_file(&path)?;
        let socket = new_socket(FLAGS)?;
        with_short_path(run_folder, |address| bind(&socket, address)).during("bind", &path)?;
        listen(&socket, BACKLOG).during("listen on", &path)?;
        Ok(Self { socket })
    }

    /// The next client; `None` when nobody waits, or this process has no descriptor left for one.
    pub(crate) fn accept(&self) -> Result<Option<Peer>, Errno> {
        match accept_with(&self.socket, FLAGS) {
            Ok(socket) => Ok(Some(Peer(socket))),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until a client asks for the start of a program whose first process is `init`, a pidfd; `None` when that
    /// process has ended first. Clients that want something else are turned away.
    pub fn await_start(&self, init: BorrowedFd<'_>) -> Result<Option<Peer>> {
        loop {
            let mut polled =
                [PollFd::new(&self.socket, PollFlags::IN), PollFd::from_borrowed_fd(init, PollFlags::IN)];
            match poll_at_rest(&mut polled, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => Err(error).during("wait for", "the start of the container")?,
            }
            if !polled[1].revents().is_empty() {
                return Ok(None);
            }
            match self.accept() {
                Ok(Some(peer)) if peer.says_start() => return Ok(Some(peer)),
                Ok(_) => {}
                // No descriptors left: the client waits until there are.
                Err(_) => std::thread::sleep(ACCEPT_AGAIN),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The monitor's end of a connection.
#[derive(Debug)]
pub struct Peer(OwnedFd);

impl Peer {
    /// Takes a descriptor that was inherited.
    pub fn from_inherited(socket: OwnedFd) -> Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true).during("make non-blocking", "the attach socket")?;
        Ok(Self(socket))
    }

    /// Whether the client's first word, for which it has a moment, is that the program is to be started.
    fn says_start(&self) -> bool {
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&FIRST_WORD));
        let mut packet = [0; MAX_PACKET_BYTES];
        let length = self.receive(&mut packet).unwrap_or(0);
        Request::decode(&packet[..length]).is_ok_and(|request| request == Request::Start)
    }

    /// Tells the client something, waiting up to `limit` until it has room for it; whether it was told.
    pub fn send(&self, event: &Event<'_>, limit: Duration) -> bool {
        self.send_packet_within(&event.encode(), Some(limit))
    }

    /// Sends a packet, waiting for room up to `limit`, or as long as the client is there.
    pub(crate) fn send_packet_within(&self, packet: &[u8], limit: Option<Duration>) -> bool {
        let timeout = limit.and_then(|limit| Timespec::try_from(limit).ok());
        loop {
            match self.send_packet(packet) {
                Ok(()) => return true,
                Err(Errno::AGAIN) => {}
                Err(_) => return false,
            }
            match poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], timeout.as_ref()) {
                Ok(0) => return false,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Sends a packet whole, or fails with `AGAIN` when the client has no room for it.
    pub(crate) fn send_packet(&self, packet: &[u8]) -> Result<(), Errno> {
        send_packet(self.as_fd(), packet)
    }

    /// Whether the next packet to receive is input or its end; it stays where it is.
    pub(crate) fn next_is_input(&self) -> bool {
        let mut kind = [0];
        let peeked = recv(&self.0, &mut kind, RecvFlags::DONTWAIT | RecvFlags::PEEK);
        peeked.is_ok_and(|(_, length)| length == 1 && is_input(kind[0]))
    }

    /// Receives a packet into `buffer`, of at least [`MAX_PACKET_BYTES`]; 0 is the end.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        loop {
            match recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, length)) => return Ok(length),
                // A client that left with output unread; what it sent before is still there.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A connection between a command and the monitor that it is about to start. Both ends are closed on exec; the
/// monitor's end is handed on by the caller and taken up by [`Peer::from_inherited`].
pub fn pair() -> Result<(Client, OwnedFd)> {
    let (client, monitor) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .during("create", "a socket pair")?;
    Ok((Client::new(client), monitor))
}

/// Connects to the monitor of the container with this run folder; fails with "not found" or "connection refused"
/// when none is there.
pub(super) fn connect_to(run_folder: &Path, request: &Request<'_>) -> Result<OwnedFd> {
    let socket = new_socket(SocketFlags::CLOEXEC)?;
    let path = run_folder.join(NAME);
    with_short_path(run_folder, |address| connect(&socket, address)).during("connect to", &path)?;
    send_packet(socket.as_fd(), &request.encode()).during("write to", &path)?;
    Ok(socket)
}

pub(super) fn send_packet(socket: BorrowedFd<'_>, packet: &[u8]) -> Result<(), Errno> {
    debug_assert!(packet.len() <= MAX_PACKET_BYTES);
    loop {
        match send(socket, packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn new_socket(flags: SocketFlags) -> Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).during("create", "a socket")?)
}

/// Names the socket through a descriptor of its folder: a socket address holds 108 bytes, a path may be longer.
fn with_short_path(
    folder: &Path,
    action: impl FnOnce(&SocketAddrUnix) -> Result<(), Errno>,
) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let folder = open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    action(&SocketAddrUnix::new(format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd()))?)
}
