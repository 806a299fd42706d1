//! Handing the caller's own standard streams to a monitor, over the pair that connects the two before anything else is
//! said on it.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use carrack_sys::IoContext;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::{Client, Peer};
use crate::{Error, Result};

/// The packet that carries the descriptors.
const PASSED: &[u8] = b"p";

impl Client {
    /// Hands standard input, output and error to the monitor that is about to be started.
    pub fn pass_streams(&self, streams: [BorrowedFd<'_>; 3]) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&streams));
        sendmsg(self.as_fd(), &[IoSlice::new(PASSED)], &mut control, SendFlags::NOSIGNAL)
            .during("hand over", "the standard streams")?;
        Ok(())
    }
}

impl Peer {
    /// The streams that the command which started this monitor has handed over.
    pub fn receive_streams(&self) -> Result<[OwnedFd; 3]> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut data = [0; 8];
        let received = loop {
            match recvmsg(
                self.as_fd(),
                &mut [IoSliceMut::new(&mut data)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Err(Errno::INTR) => {}
                received => break received.during("take over", "the standard streams")?,
            }
        };
        let mut streams = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                streams.extend(fds);
            }
        }
        let missing = Error::Protocol { reason: "expected three standard streams" };
        match data[..received.bytes] == *PASSED {
            true => streams.try_into().map_err(|_| missing),
            false => Err(missing),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::attach::pair;

    #[test]
    fn the_streams_arrive_and_something_else_is_refused() {
        let (client, peer) = pair().unwrap();
        let peer = Peer::from_inherited(peer).unwrap();
        let (mut read, write) = std::io::pipe().unwrap();
        client.pass_streams([read.as_fd(), write.as_fd(), write.as_fd()]).unwrap();
        let [_, stdout, _] = peer.receive_streams().unwrap();
        std::fs::File::from(stdout).write_all(b"x").unwrap();
        let mut byte = [0];
        read.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        assert!(client.send(&crate::attach::Request::StdinEnd));
        assert!(peer.receive_streams().is_err());
    }
}
