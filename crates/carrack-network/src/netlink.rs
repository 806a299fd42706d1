//! A netlink socket. The kernel answers within `send`, so every answer is read without waiting; a request that asked
//! for an acknowledgement and got none is an error, never a success and never a hang.

use std::io;

use carrack_sys::IoContext;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_REQUEST, NetlinkBuffer, NetlinkSerializable, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols};
use rustix::io::Errno;

use crate::{Error, Result};

const HEADER_LEN: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// The kernel never makes a part of a dump larger than this.
const RECEIVE_LEN: usize = 32 * 1024;

/// What a request is for, as its error tells it.
#[derive(Clone, Debug)]
pub(crate) struct Purpose {
    pub operation: &'static str,
    pub object: String,
}

impl Purpose {
    pub fn new(operation: &'static str, object: impl Into<String>) -> Self {
        Self { operation, object: object.into() }
    }

    /// The error of a request for this purpose.
    pub fn failed(&self, source: io::Error, detail: Option<String>) -> Error {
        Error::Netlink { operation: self.operation, object: self.object.clone(), detail, source }
    }
}

/// One request.
pub(crate) struct Request {
    kind: u16,
    flags: u16,
    payload: Vec<u8>,
    purpose: Purpose,
}

impl Request {
    /// A change: the kernel is asked to acknowledge it.
    pub fn change(kind: u16, flags: u16, payload: Vec<u8>, purpose: Purpose) -> Self {
        Self { kind, flags: flags | NLM_F_ACK, payload, purpose }
    }

    /// A question (its answer is the acknowledgement), or a mark that is never answered.
    pub fn question(kind: u16, flags: u16, payload: Vec<u8>, purpose: Purpose) -> Self {
        Self { kind, flags, payload, purpose }
    }

    /// The payload and kind of an rtnetlink message.
    pub fn route(message: &RouteNetlinkMessage) -> (u16, Vec<u8>) {
        let mut payload = vec![0; NetlinkSerializable::buffer_len(message)];
        message.serialize(&mut payload);
        (NetlinkSerializable::message_type(message), payload)
    }

    fn emit(&self, sequence: u32, bytes: &mut Vec<u8>) {
        // Nothing here comes near 4 GiB: the largest payload is a set of elements below 64 KiB.
        let length = (HEADER_LEN + self.payload.len()) as u32;
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&(self.flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&0_u32.to_ne_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
}

/// A message of the kernel that is neither an error nor an acknowledgement.
pub(crate) struct Reply {
    pub kind: u16,
    pub payload: Vec<u8>,
}

/// A socket to one family of the kernel, in the network namespace in which it was opened.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Links, addresses and routes.
    pub fn route() -> Result<Self> {
        Self::open(protocols::NETLINK_ROUTE)
    }

    /// nf_tables and connection tracking.
    pub fn netfilter() -> Result<Self> {
        Self::open(protocols::NETLINK_NETFILTER)
    }

    fn open(protocol: isize) -> Result<Self> {
        let open = || {
            let socket = Socket::new(protocol)?;
            socket.set_non_blocking(true)?;
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            Ok::<_, io::Error>(socket)
        };
        let socket = open().during("open", "a netlink socket")?;
        Ok(Self { socket, sequence: 1, buffer: vec![0; RECEIVE_LEN] })
    }

    /// Sends the requests in one message and returns all replies; the first refused request is the error.
    pub fn send(&mut self, requests: &[Request]) -> Result<Vec<Reply>> {
        let first = self.sequence;
        let mut bytes =
            Vec::with_capacity(requests.iter().map(|request| request.payload.len() + HEADER_LEN + 4).sum());
        for request in requests {
            request.emit(self.sequence, &mut bytes);
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).during("send", "a netlink request")?;
        let mut answers = Answers {
            first,
            acknowledged: vec![false; requests.len()],
            refusals: Vec::new(),
            replies: Vec::new(),
        };
        self.receive(&mut answers)?;
        answers.judge(requests)
    }

    fn receive(&mut self, answers: &mut Answers) -> Result<()> {
        loop {
            let (length, sender) = match self.socket.recv_from(&mut &mut self.buffer[..], 0) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).during("receive", "a netlink answer")?,
            };
            // Any local process may send to this socket; only the kernel has port 0.
            if sender.port_number() == 0 {
                answers.take(&self.buffer[..length.min(RECEIVE_LEN)]);
            }
        }
    }
}

/// What the kernel said to a list of requests.
struct Answers {
    first: u32,
    acknowledged: Vec<bool>,
    refusals: Vec<(usize, Errno, Option<String>)>,
    replies: Vec<Reply>,
}

impl Answers {
    fn take(&mut self, mut datagram: &[u8]) {
        while let Ok(message) = NetlinkBuffer::new_checked(datagram) {
            let index = message.sequence_number().wrapping_sub(self.first) as usize;
            if index < self.acknowledged.len() {
                self.take_message(index, &message);
            }
            let length = (message.length() as usize).next_multiple_of(4);
            datagram = datagram.get(length..).unwrap_or_default();
        }
    }

    fn take_message(&mut self, index: usize, message: &NetlinkBuffer<&[u8]>) {
        let payload = message.payload();
        match message.message_type() {
            NLMSG_ERROR | NLMSG_DONE => {
                self.acknowledged[index] = true;
                let code = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                if code < 0 {
                    let errno = Errno::from_raw_os_error(code.wrapping_neg());
                    self.refusals.push((index, errno, extended_message(message.flags(), payload)));
                }
            }
            kind => {
                self.acknowledged[index] = true;
                self.replies.push(Reply { kind, payload: payload.to_vec() });
            }
        }
    }

    fn judge(self, requests: &[Request]) -> Result<Vec<Reply>> {
        if let Some((index, errno, detail)) = self.refusals.into_iter().min_by_key(|(index, ..)| *index) {
            return Err(requests[index].purpose.failed(errno.into(), detail));
        }
        let unanswered =
            |(request, acknowledged): &(&Request, bool)| request.flags & NLM_F_ACK != 0 && !acknowledged;
        match requests.iter().zip(self.acknowledged).find(unanswered) {
            Some((request, _)) => {
                let source =
                    io::Error::new(io::ErrorKind::InvalidData, "expected an acknowledgement, got none");
                Err(request.purpose.failed(source, None))
            }
            None => Ok(self.replies),
        }
    }
}

/// The text that the kernel adds to an error (`NLMSGERR_ATTR_MSG`).
fn extended_message(flags: u16, payload: &[u8]) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let refused_len = payload.get(4..8)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))? as usize;
    let start = 4 + if flags & NLM_F_CAPPED != 0 { HEADER_LEN } else { refused_len.next_multiple_of(4) };
    let text = NlasIterator::new(payload.get(start..)?)
        .flatten()
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .map(|attribute| String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned());
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};

    use super::*;

    #[test]
    fn a_refused_request_names_operation_and_object() {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName("absent0".into()));
        let (kind, payload) = Request::route(&RouteNetlinkMessage::DelLink(message));
        let request = Request::change(kind, 0, payload, Purpose::new("delete", "interface absent0"));
        let error = Netlink::route().unwrap().send(&[request]).err().unwrap();
        assert!(error.to_string().starts_with("cannot delete interface absent0: No such device"), "{error}");
    }

    #[test]
    fn silence_is_not_success() {
        let request = Request::change(0, 0, Vec::new(), Purpose::new("do", "nothing"));
        let answers =
            Answers { first: 1, acknowledged: vec![false], refusals: Vec::new(), replies: Vec::new() };
        let error = answers.judge(&[request]).err().unwrap();
        assert!(error.to_string().contains("expected an acknowledgement"), "{error}");
    }

    #[test]
    fn odd_datagrams_are_left() {
        for datagram in
            [&[][..], &[0; 15], &[0; 16], &[255; 40], &[16, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]]
        {
            let mut answers =
                Answers { first: 1, acknowledged: vec![false], refusals: Vec::new(), replies: Vec::new() };
            answers.take(datagram);
            assert!(answers.replies.is_empty());
        }
        assert_eq!(extended_message(NLM_F_ACK_TLVS, &[255; 12]), None);
    }
}
