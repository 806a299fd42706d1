//! Attached clients, and the output that some of them do not have yet.
//!
//! Invariant: each client gets all output from the moment it attached, whole and in order, or is dropped.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::PATIENCE;
use crate::attach::{Event, Peer, Request, STDERR, STDOUT, Streams};

/// More clients than a person attaches; keeps descriptors of this process for other uses.
const MAX_CLIENTS: usize = 128;

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) peer: Peer,
    /// What it wants; `None` until it has said so.
    streams: Option<Streams>,
    /// The number of the first packet that it has not got.
    next: u64,
    /// Since when it has had no room for that packet.
    blocked_since: Option<Instant>,
    /// Whether the container waits for it without end.
    is_foreground: bool,
    /// Whether its next request is input, seen when there was no room for it.
    pub(super) holds_input: bool,
    parting: Option<Parting>,
}

/// How a client went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parting {
    /// On the user's wish.
    Detached,
    /// Its process ended, or it made no sense.
    Lost,
}

/// All clients of a monitor.
#[derive(Debug)]
pub(super) struct Clients {
    clients: Vec<Client>,
    /// Packets that at least one client has not got.
    packets: VecDeque<Vec<u8>>,
    /// The number of the first of them.
    first: u64,
}

impl Clients {
    pub(super) fn new(foreground: Option<Peer>) -> Self {
        let mut clients = Self { clients: Vec::new(), packets: VecDeque::new(), first: 0 };
        clients.clients.extend(foreground.map(|peer| Client {
            streams: Some(Streams::ALL),
            is_foreground: true,
            ..Client::new(peer)
        }));
        clients
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.clients.iter()
    }

    /// Takes a client that will say what it wants.
    pub(super) fn add(&mut self, peer: Peer) {
        match self.clients.len() < MAX_CLIENTS {
            true => self.clients.push(Client::new(peer)),
            false => {
                let refusal = Event::Failed { code: 125, message: "too many clients are attached" };
                peer.send(&refusal, Duration::ZERO);
            }
        }
    }

    pub(super) fn have_everything(&self) -> bool {
        self.packets.is_empty()
    }

    pub(super) fn is_behind(&self, client: &Client) -> bool {
        client.streams.is_some() && client.next < self.end()
    }

    /// When the patience with the first of the slow clients ends.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.clients.iter().filter_map(Client::deadline).min()
    }

    /// Gives a packet to every client that wants it, now or when it has room.
    pub(super) fn publish(&mut self, packet: &[u8]) {
        if self.clients.iter().all(|client| client.streams.is_none()) {
            return;
        }
        self.packets.push_back(packet.to_vec());
        for index in 0..self.clients.len() {
            self.deliver(index);
        }
    }

    /// Sends a client what it has not got, as far as it has room.
    pub(super) fn deliver(&mut self, index: usize) {
        let end = self.end();
        let client = &mut self.clients[index];
        let Some(streams) = client.streams else { return };
        while client.next < end && client.parting.is_none() {
            let at = usize::try_from(client.next - self.first).expect("as many as are in memory");
            let packet = &self.packets[at];
            let wanted = match packet[0] {
                STDOUT => streams.stdout,
                STDERR => streams.stderr,
                _ => true,
            };
            match if wanted { client.peer.send_packet(packet) } else { Ok(()) } {
                Ok(()) => {
                    client.next += 1;
                    client.blocked_since = None;
                }
                Err(Errno::AGAIN) => {
                    client.blocked_since.get_or_insert_with(Instant::now);
                    break;
                }
                Err(_) => client.parting = Some(Parting::Lost),
            }
        }
        self.forget_delivered();
    }

    /// Takes a client's next request; what concerns the client alone is done here.
    pub(super) fn receive<'a>(&mut self, index: usize, buffer: &'a mut [u8]) -> Option<Request<'a>> {
        let end = self.end();
        let client = &mut self.clients[index];
        let length = match client.peer.receive(buffer) {
            Ok(length) => length,
            Err(Errno::AGAIN) => return None,
            Err(_) => 0,
        };
        // The end of the connection reads as an empty packet, which is no request.
        match (Request::decode(&buffer[..length]), client.streams) {
            (Ok(Request::Attach(streams)), None) => {
                client.streams = Some(streams);
                client.next = end;
                None
            }
            (Ok(Request::Detach), _) => {
                client.parting = Some(Parting::Detached);
                None
            }
            (Ok(request @ (Request::Stdin(_) | Request::StdinEnd)), Some(Streams { stdin: true, .. })) => {
                Some(request)
            }
            (Ok(request @ Request::Resize { .. }), Some(_)) => Some(request),
            _ => {
                client.parting = Some(Parting::Lost);
                None
            }
        }
    }

    /// While input has nowhere to go: whether the client's next request must wait for that. A client that hangs up
    /// in this state is lost with what it still sent.
    pub(super) fn hold_input(&mut self, index: usize, flags: PollFlags) -> bool {
        let client = &mut self.clients[index];
        if !flags.contains(PollFlags::IN) {
            client.parting = Some(Parting::Lost);
            return true;
        }
        client.holds_input = client.peer.next_is_input();
        client.holds_input
    }

    /// Forgets the clients that are gone or take no output; whether one of them was lost that had sent input.
    pub(super) fn part(&mut self) -> bool {
        let now = Instant::now();
        let mut lost_input = false;
        self.clients.retain(|client| {
            let is_lost =
                client.parting == Some(Parting::Lost) || client.deadline().is_some_and(|at| now >= at);
            lost_input |= is_lost && client.streams.is_some_and(|streams| streams.stdin);
            !is_lost && client.parting.is_none()
        });
        self.forget_delivered();
        lost_input
    }

    /// Waits until each client has everything or is gone.
    pub(super) fn deliver_rest(mut self) {
        loop {
            for index in 0..self.clients.len() {
                self.deliver(index);
            }
            self.part();
            let end = self.end();
            self.clients.retain(|client| client.streams.is_some() && client.next < end);
            if self.clients.is_empty() {
                return;
            }
            let mut polled: Vec<_> =
                self.clients.iter().map(|client| PollFd::new(&client.peer, PollFlags::OUT)).collect();
            let left = self.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            // An error is found again, and told, by the next delivery.
            let _ = poll(&mut polled, timeout.as_ref());
        }
    }

    /// The number of the next packet.
    fn end(&self) -> u64 {
        self.first + self.packets.len() as u64
    }

    fn forget_delivered(&mut self) {
        let listeners =
            self.clients.iter().filter(|client| client.streams.is_some() && client.parting.is_none());
        let needed = listeners.map(|client| client.next).min().unwrap_or(self.end());
        while self.first < needed {
            self.packets.pop_front();
            self.first += 1;
        }
    }
}

impl Client {
    fn new(peer: Peer) -> Self {
        Self {
            peer,
            streams: None,
            next: 0,
            blocked_since: None,
            is_foreground: false,
            holds_input: false,
            parting: None,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.blocked_since.filter(|_| !self.is_foreground).map(|since| since + PATIENCE)
    }
}
