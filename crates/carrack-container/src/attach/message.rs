//! Messages as bytes. Pure; what does not have the form drawn in the module docs is refused.

use crate::{Error, Result};

/// The most output or input in one message.
pub const MAX_DATA_BYTES: usize = 32 * 1024;
/// The largest packet: a kind and data.
pub(super) const MAX_PACKET_BYTES: usize = 1 + MAX_DATA_BYTES;
/// The longest message of a failure; the rest is cut.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// The kind byte of output; the monitor makes these packets without a copy.
pub(crate) const STDOUT: u8 = b'o';
/// The kind byte of error output.
pub(crate) const STDERR: u8 = b'r';

/// The streams that a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    /// Whether it will send input.
    pub stdin: bool,
    /// Whether it wants standard output.
    pub stdout: bool,
    /// Whether it wants standard error.
    pub stderr: bool,
}

impl Streams {
    /// Everything.
    pub const ALL: Self = Self { stdin: true, stdout: true, stderr: true };
}

/// What a client asks of the monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Begin to send output.
    Attach(Streams),
    /// Start the program of a container that was initialized; the client is then attached to everything.
    Start,
    /// Input for the container.
    Stdin(&'a [u8]),
    /// There is no more input.
    StdinEnd,
    /// The user's terminal has this size now.
    Resize {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
    /// The client leaves on the user's wish; the container's input stays open.
    Detach,
}

impl<'a> Request<'a> {
    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Attach(streams) => {
                let flag = |wanted: bool, bit: u8| if wanted { bit } else { 0 };
                vec![b'a', flag(streams.stdin, 1) | flag(streams.stdout, 2) | flag(streams.stderr, 4)]
            }
            Self::Start => vec![b's'],
            Self::Stdin(data) => [b"i", *data].concat(),
            Self::StdinEnd => vec![b'e'],
            Self::Resize { rows, columns } => {
                [&b"w"[..], &rows.to_le_bytes(), &columns.to_le_bytes()].concat()
            }
            Self::Detach => vec![b'd'],
        }
    }

    /// Reads a packet.
    pub fn decode(packet: &'a [u8]) -> Result<Self> {
        Ok(match packet {
            [b'a', flags @ 0..=7] => Self::Attach(Streams {
                stdin: flags & 1 != 0,
                stdout: flags & 2 != 0,
                stderr: flags & 4 != 0,
            }),
            [b'i', data @ ..] if (1..=MAX_DATA_BYTES).contains(&data.len()) => Self::Stdin(data),
            [b's'] => Self::Start,
            [b'e'] => Self::StdinEnd,
            [b'w', r0, r1, c0, c1] => {
                Self::Resize { rows: u16::from_le_bytes([*r0, *r1]), columns: u16::from_le_bytes([*c0, *c1]) }
            }
            [b'd'] => Self::Detach,
            _ => return Err(Error::Protocol { reason: "expected a request" }),
        })
    }
}

/// Whether a packet of this kind is [`Request::Stdin`] or [`Request::StdinEnd`].
pub(super) fn is_input(kind: u8) -> bool {
    matches!(kind, b'i' | b'e')
}

/// What the monitor tells a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The program runs.
    Started,
    /// Standard output, or what the terminal shows.
    Stdout(&'a [u8]),
    /// Standard error.
    Stderr(&'a [u8]),
    /// The program has ended and all output was sent.
    Exited {
        /// 0 to 255.
        code: i32,
    },
    /// The program could not be started.
    Failed {
        /// What the command is to exit with: 125, 126 or 127.
        code: i32,
        /// Why.
        message: &'a str,
    },
}

impl<'a> Event<'a> {
    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Started => vec![b's'],
            Self::Stdout(data) => [&[STDOUT], *data].concat(),
            Self::Stderr(data) => [&[STDERR], *data].concat(),
            Self::Exited { code } => [&b"x"[..], &code.to_le_bytes()].concat(),
            Self::Failed { code, message } => {
                let text = &message[..message.floor_char_boundary(MAX_TEXT_BYTES)];
                [&b"f"[..], &code.to_le_bytes(), text.as_bytes()].concat()
            }
        }
    }

    /// Reads a packet.
    pub fn decode(packet: &'a [u8]) -> Result<Self> {
        let refuse = || Error::Protocol { reason: "expected an event" };
        Ok(match packet {
            [b's'] => Self::Started,
            [STDOUT, data @ ..] => Self::Stdout(data),
            [STDERR, data @ ..] => Self::Stderr(data),
            [b'x', code @ ..] => {
                Self::Exited { code: i32::from_le_bytes(code.try_into().map_err(|_| refuse())?) }
            }
            [b'f', c0, c1, c2, c3, text @ ..] => Self::Failed {
                code: i32::from_le_bytes([*c0, *c1, *c2, *c3]),
                message: std::str::from_utf8(text).map_err(|_| refuse())?,
            },
            _ => return Err(refuse()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives() {
        let streams = Streams { stdin: false, stdout: true, stderr: false };
        for request in [
            Request::Attach(streams),
            Request::Start,
            Request::Stdin(b"x\0y"),
            Request::StdinEnd,
            Request::Resize { rows: 300, columns: 65535 },
            Request::Detach,
        ] {
            assert_eq!(Request::decode(&request.encode()).unwrap(), request);
        }
        for event in [
            Event::Started,
            Event::Stdout(b"out"),
            Event::Stderr(b"err"),
            Event::Exited { code: 137 },
            Event::Failed { code: 127, message: "no such file: ä" },
        ] {
            assert_eq!(Event::decode(&event.encode()).unwrap(), event);
        }
    }

    #[test]
    fn refuses_malformed_packets() {
        let long = [b"i", &[0u8; MAX_DATA_BYTES + 1][..]].concat();
        for packet in [&b""[..], b"a", b"a\x08", b"a\x01\x01", b"i", b"e1", b"w\0\0\0", b"dd", b"?", &long] {
            assert!(Request::decode(packet).is_err(), "{packet:?} was accepted");
        }
        for packet in [&b""[..], b"s1", b"x\0\0\0", b"f\0\0\0", b"f\0\0\0\0\xff", b"i"] {
            assert!(Event::decode(packet).is_err(), "{packet:?} was accepted");
        }
    }

    #[test]
    fn a_long_failure_is_cut_at_a_character() {
        let message = "ä".repeat(MAX_TEXT_BYTES);
        let packet = Event::Failed { code: 125, message: &message }.encode();
        assert!(packet.len() < MAX_PACKET_BYTES);
        assert!(Event::decode(&packet).is_ok());
    }
}
