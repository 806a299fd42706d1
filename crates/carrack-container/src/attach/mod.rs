//! The attach protocol: how the command in a user's terminal and the monitor of a container talk.
//!
//! A `SOCK_SEQPACKET` socket in the container's run folder, or one half of a pair that the command which starts the
//! container hands to its monitor. Each packet is one message: a kind byte, then its content. Requests go to the
//! monitor, events come from it.
//!
//! ```text
//! request   kind  content                    event    kind  content
//! Attach    a     flags: 1 in, 2 out, 4 err  Started  s
//! Start     s                                Stdout   o     1 to 32768 bytes
//! Stdin     i     1 to 32768 bytes           Stderr   r     1 to 32768 bytes
//! StdinEnd  e                                Exited   x     code: i32 little endian
//! Resize    w     rows, columns: u16 little  Failed   f     code: i32, then a message
//! Detach    d     endian
//! ```
//!
//! A client that connects says `Attach` first, or `Start` where a container was initialized; who said that, and one half of a pair, is attached to everything from the start, and
//! hears `Started` or `Failed`. The end of the connection without `Exited` means that the monitor is gone: the state
//! in the store tells what became of the container.

mod client;
mod keys;
mod message;
mod passed;
mod socket;

pub use client::{Client, Ended, Relay, Signals};
pub use keys::DetachKeys;
pub use message::{Event, MAX_DATA_BYTES, Request, Streams};
pub(crate) use message::{STDERR, STDOUT};
pub use socket::{Listener, Peer, pair};
