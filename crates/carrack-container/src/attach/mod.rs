//! The attach protocol: how the command in a user's terminal and the monitor of a container talk.
//!
//! A `SOCK_SEQPACKET` socket in the container's run folder, or one half of a pair that the command which starts the
//! container hands to its monitor. Each packet is one message: a kind byte, then its content. Requests go to the
//! monitor, events come from it.
//!
//! ```text
//! request   kind  content                    event    kind  content
//! Attach    a     flags: 1 in, 2 out, 4 err  Started  s
//! Stdin     i     1 to 32768 bytes           Stdout   o     1 to 32768 bytes
//! StdinEnd  e                                Stderr   r     1 to 32768 bytes
//! Resize    w     rows, columns: u16 little  Exited   x     code: i32 little endian
//! Detach    d     endian                     Failed   f     code: i32, then a message
//! ```
//!
//! A client that connects says `Attach` first; one half of a pair is attached to everything from the start, and
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
