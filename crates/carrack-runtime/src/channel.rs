//! The socket between the process that starts a container and the container's first process.
//!
//! Each message is one packet. The child announces the exec before it tries it, so that the end of the stream after
//! that packet means success, and before it means that the child died.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use carrack_sys::IoContext;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::{Error, Result};

/// What the parent tells the child, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The user namespace has its mappings.
    OwnersMapped = b'm' as isize,
    /// The child is in its cgroups.
    Placed = b'p' as isize,
    /// The hooks that belong before the root is entered have run.
    HooksRan = b'h' as isize,
    /// The program may be executed.
    Start = b's' as isize,
    /// The seccomp agent has its listener.
    ListenerTaken = b'l' as isize,
}

/// What the child tells the parent.
#[derive(Debug)]
pub(crate) enum Report {
    /// The master side of the console.
    Console(OwnedFd),
    /// The number of its seccomp listener, which it waits to have taken.
    Listener(i32),
    /// All mounts are made, and the root is not entered yet.
    Mounted,
    /// All is set up; the program waits for its start.
    Ready,
    /// The next thing that happens is the exec.
    Executing,
    /// Nothing more will come.
    End,
}

/// First byte of what the child tells the parent.
mod kind {
    pub const CONSOLE: u8 = b'c';
    pub const LISTENER: u8 = b'l';
    pub const MOUNTED: u8 = b'm';
    pub const READY: u8 = b'r';
    pub const EXECUTING: u8 = b'x';
    pub const NOT_FOUND: u8 = b'n';
    pub const NOT_EXECUTABLE: u8 = b'e';
    pub const SETUP: u8 = b'f';
}

const MAX_MESSAGE_BYTES: usize = 4096;

/// One end of the socket.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// The parent's and the child's end.
    pub fn pair() -> Result<(Self, Self)> {
        let pair =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (parent, child) = pair.during("create", "the socket to the container")?;
        Ok((Self(parent), Self(child)))
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Parent: sends `signal`. A child that is gone is reported by [`Self::outcome`], not here.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match rustix::net::send(&self.0, &[signal as u8], SendFlags::NOSIGNAL) {
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(error) => Err(error).during("write to", "the container's first process")?,
        }
    }

    /// Child: waits for `signal`. A parent that is gone means that the container is not wanted any more.
    pub fn expect(&self, signal: Signal) -> Result<()> {
        let mut byte = [0u8];
        let count = retry(|| rustix::io::read(&self.0, &mut byte)).during("read from", "the starter")?;
        if count == 1 && byte[0] == signal as u8 {
            Ok(())
        } else {
            Err(Error::Setup { message: "the process that starts the container ended".into() })
        }
    }

    /// Child: all mounts are made.
    pub fn mounted(&self) -> Result<()> {
        Ok(self.write(&[kind::MOUNTED]).during("write to", "the creator")?)
    }

    /// Child: all is set up.
    pub fn ready(&self) -> Result<()> {
        Ok(self.write(&[kind::READY]).during("write to", "the creator")?)
    }

    /// Child: waits on a listening socket until somebody connects and says [`Signal::Start`]; who goes away without
    /// having said it has changed nothing.
    pub fn accept_start(listener: &OwnedFd) -> Result<Self> {
        loop {
            let accepted = retry(|| rustix::net::accept_with(listener, SocketFlags::CLOEXEC));
            let channel = Self(accepted.during("accept", "the starter")?);
            if channel.expect(Signal::Start).is_ok() {
                return Ok(channel);
            }
        }
    }

    /// The other end of [`Self::accept_start`].
    pub fn connected(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Child: the next thing that happens is the exec.
    pub fn executing(&self) -> Result<()> {
        Ok(self.write(&[kind::EXECUTING]).during("write to", "the starter")?)
    }

    /// Child: says which descriptor its seccomp listener is, and waits until it was taken.
    pub fn offer_listener(&self, number: i32) -> Result<()> {
        let mut message = vec![kind::LISTENER];
        message.extend(number.to_le_bytes());
        self.write(&message).during("write to", "the starter")?;
        self.expect(Signal::ListenerTaken)
    }

    /// Child: hands over the master side of the console.
    pub fn send_console(&self, master: BorrowedFd<'_>) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [master];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let data = [kind::CONSOLE];
        rustix::net::sendmsg(&self.0, &[IoSlice::new(&data)], &mut control, SendFlags::NOSIGNAL)
            .during("send", "the console")?;
        Ok(())
    }

    /// Child: reports why it ends. Nobody may listen any more.
    pub fn send_error(&self, error: &Error) {
        let (kind, number, text) = match error {
            Error::NotFound { program } => (kind::NOT_FOUND, 0, program.clone()),
            Error::NotExecutable { program, source } => {
                (kind::NOT_EXECUTABLE, source.raw_os_error().unwrap_or(0), program.clone())
            }
            other => (kind::SETUP, 0, other.to_string()),
        };
        let mut message = vec![kind];
        message.extend(number.to_le_bytes());
        message.extend(text.as_bytes());
        message.truncate(MAX_MESSAGE_BYTES);
        let _ = self.write(&message);
    }

    // write(2) and not sendmsg: the seccomp profile of the container is in force by now.
    fn write(&self, message: &[u8]) -> rustix::io::Result<()> {
        retry(|| rustix::io::write(&self.0, message)).map(|_| ())
    }

    /// Parent: the next report, or why the child gave up.
    pub fn report(&self) -> Result<Report> {
        let mut data = [0u8; MAX_MESSAGE_BYTES];
        loop {
            let (count, received) = match receive(self.as_fd(), &mut data) {
                // The child ended with messages of ours unread: told once, before what it sent.
                Err(Errno::INTR | Errno::CONNRESET) => continue,
                received => received.during("read from", "the container")?,
            };
            match (data[..count].split_first(), received) {
                (None, _) => return Ok(Report::End),
                (Some((&kind::CONSOLE, _)), Some(console)) => return Ok(Report::Console(console)),
                (Some((&kind::LISTENER, number)), _) => {
                    return Ok(Report::Listener(
                        number.first_chunk().map_or(-1, |number| i32::from_le_bytes(*number)),
                    ));
                }
                (Some((&kind::MOUNTED, _)), _) => return Ok(Report::Mounted),
                (Some((&kind::READY, _)), _) => return Ok(Report::Ready),
                (Some((&kind::EXECUTING, _)), _) => return Ok(Report::Executing),
                (Some((&kind, rest)), _) => return Err(decode_error(kind, rest)),
            }
        }
    }

    /// Parent: reads until the program runs; the console when there is one, or why it does not run. `take_listener` is
    /// called with the number of the child's seccomp listener, if there is one.
    pub fn outcome(&self, mut take_listener: impl FnMut(i32) -> Result<()>) -> Result<Option<OwnedFd>> {
        let mut console = None;
        let mut executing = false;
        loop {
            match self.report()? {
                Report::Console(master) => console = Some(master),
                Report::Executing => executing = true,
                Report::Mounted | Report::Ready => {}
                Report::Listener(number) => {
                    take_listener(number)?;
                    self.signal(Signal::ListenerTaken)?;
                }
                Report::End if executing => return Ok(console),
                Report::End => return Err(Error::Setup { message: "its first process was killed".into() }),
            }
        }
    }
}

fn decode_error(kind: u8, rest: &[u8]) -> Error {
    let (number, text) = rest.split_first_chunk::<4>().unwrap_or((&[0; 4], rest));
    let text = String::from_utf8_lossy(text).into_owned();
    match kind {
        kind::NOT_FOUND => Error::NotFound { program: text },
        kind::NOT_EXECUTABLE => {
            let source = io::Error::from_raw_os_error(i32::from_le_bytes(*number));
            Error::NotExecutable { program: text, source }
        }
        _ => Error::Setup { message: text },
    }
}

fn receive(socket: BorrowedFd<'_>, data: &mut [u8]) -> rustix::io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(data)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let count = message?.bytes;
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((count, rights))
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_listener(_: i32) -> Result<()> {
        Ok(())
    }

    #[test]
    fn an_end_before_the_exec_is_a_failure_and_after_it_success() {
        let (parent, child) = Channel::pair().unwrap();
        drop(child);
        assert!(matches!(parent.outcome(no_listener), Err(Error::Setup { .. })));

        let (parent, child) = Channel::pair().unwrap();
        child.executing().unwrap();
        drop(child);
        assert!(parent.outcome(no_listener).unwrap().is_none());
    }

    #[test]
    fn errors_keep_their_kind() {
        let (parent, child) = Channel::pair().unwrap();
        let source = io::Error::from_raw_os_error(13);
        child.send_error(&Error::NotExecutable { program: "/etc".into(), source });
        let error = parent.outcome(no_listener).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().contains("/etc")), (126, true));
    }

    #[test]
    fn an_error_is_not_lost_when_our_messages_were_not_read() {
        let (parent, child) = Channel::pair().unwrap();
        parent.signal(Signal::Placed).unwrap();
        child.send_error(&Error::NotFound { program: "x".into() });
        drop(child);
        assert!(matches!(parent.outcome(no_listener), Err(Error::NotFound { .. })));
    }

    #[test]
    fn the_console_descriptor_arrives() {
        let (parent, child) = Channel::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        child.send_console(file.as_fd()).unwrap();
        child.executing().unwrap();
        drop(child);
        assert!(parent.outcome(no_listener).unwrap().is_some());
    }
}
