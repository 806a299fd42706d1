//! A transaction: all of its changes are made, or none.

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE};
use rustix::io::Errno;

use super::attribute::Attributes;
use crate::Result;
use crate::netlink::{Netlink, Purpose, Reply, Request};

/// `NFPROTO_IPV4`.
pub(super) const FAMILY_IPV4: u8 = 2;
const FAMILY_UNSPECIFIED: u8 = 0;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const SUBSYSTEM: u16 = 10;

/// What a message does (`enum nf_tables_msg_types`).
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    NewTable = 0,
    GetTable = 1,
    NewChain = 3,
    NewRule = 6,
    NewSet = 9,
    NewElement = 12,
    GetElement = 13,
    /// Deletes; what is not there is fine (Linux 6.3).
    DestroyTable = 26,
    DestroyElement = 30,
}

impl Verb {
    fn kind(self) -> u16 {
        SUBSYSTEM << 8 | self as u16
    }
}

/// Changes that have not been sent.
pub(super) struct Transaction(Vec<Request>);

impl Transaction {
    pub fn new() -> Self {
        Self(vec![mark(BATCH_BEGIN)])
    }

    /// Adds a change, which may fail on what exists where `flags` say so.
    pub fn push(&mut self, verb: Verb, flags: u16, attributes: Attributes, purpose: Purpose) {
        let flags = flags | NLM_F_ACK | if is_creation(verb) { NLM_F_CREATE } else { 0 };
        self.0.push(Request::change(verb.kind(), flags, attributes.into_message(FAMILY_IPV4, 0), purpose));
    }

    /// Sends all.
    pub fn commit(mut self, netlink: &mut Netlink) -> Result<()> {
        self.0.push(mark(BATCH_END));
        netlink.send(&self.0).map(drop)
    }
}

fn is_creation(verb: Verb) -> bool {
    matches!(verb, Verb::NewTable | Verb::NewChain | Verb::NewRule | Verb::NewSet | Verb::NewElement)
}

fn mark(kind: u16) -> Request {
    let message = Attributes::new().into_message(FAMILY_UNSPECIFIED, SUBSYSTEM);
    Request::question(kind, 0, message, Purpose::new("change", "the nf_tables ruleset"))
}

/// Asks for the state of something; `None` when it does not exist.
pub(super) fn ask(
    netlink: &mut Netlink,
    (verb, flags): (Verb, u16),
    attributes: Attributes,
    purpose: Purpose,
) -> Result<Option<Vec<Reply>>> {
    let request = Request::question(verb.kind(), flags, attributes.into_message(FAMILY_IPV4, 0), purpose);
    match netlink.send(&[request]) {
        Ok(replies) => Ok(Some(replies)),
        Err(error) if error.is_answer(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The attributes of a reply, behind its `struct nfgenmsg`.
pub(super) fn attributes_of(reply: &Reply) -> &[u8] {
    reply.payload.get(4..).unwrap_or_default()
}
