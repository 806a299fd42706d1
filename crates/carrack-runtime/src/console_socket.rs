//! The socket over which a runtime hands the master of a terminal to its caller (runc's `--console-socket`).
//!
//! Invariant: what is received is a descriptor that closes at an exec.

use std::ffi::OsStr;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, accept_with, bind, connect, listen, recvmsg,
    sendmsg, socket_with,
};

use crate::standby::address;
use crate::{Error, Result};

/// A socket that waits for one terminal.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: OwnedFd,
    path: PathBuf,
}

impl ConsoleSocket {
    /// Name of the socket in its folder. A runtime is to be given it alone, and the folder as its working directory: a
    /// path may be longer than an address can.
    pub const NAME: &str = "console";

    /// Makes the socket in `folder`, in place of one that was left there.
    pub fn bind(folder: &Path) -> Result<Self> {
        let path = folder.join(Self::NAME);
        carrack_sys::atomic::remove_file(&path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let listener = listener.during("create", "a socket")?;
        let (_open, address) = address(folder, Self::NAME)?;
        bind(&listener, &address).during("make the socket", &path)?;
        listen(&listener, 1).during("listen on", &path)?;
        Ok(Self { listener, path })
    }

    /// Takes the terminal that a runtime which has ended by now has sent.
    pub fn take(&self) -> Result<OwnedFd> {
        let missing = || Error::Setup { message: "the runtime has sent no terminal".into() };
        let connection = match accept_with(&self.listener, SocketFlags::CLOEXEC) {
            Err(Errno::AGAIN) => return Err(missing()),
            connection => connection.during("accept a connection on", &self.path)?,
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 64];
        let mut parts = [IoSliceMut::new(&mut name)];
        recvmsg(&connection, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
            .during("receive a terminal over", &self.path)?;
        let mut received = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        received.next().and_then(|mut descriptors| descriptors.next()).ok_or_else(missing)
    }
}

/// Gives the master of a terminal to whoever listens at `path`.
pub(crate) fn send_console(master: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket = socket.during("create", "a socket")?;
    let (folder, name) = (path.parent(), path.file_name().and_then(OsStr::to_str));
    let (_open, address) = match (folder, name) {
        (Some(folder), Some(name)) if folder != Path::new("") => address(folder, name)?,
        (_, name) => address(Path::new("."), name.unwrap_or_default())?,
    };
    connect(&socket, &address).during("connect to the console socket", path)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [master];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let name = IoSlice::new(b"/dev/ptmx");
    sendmsg(&socket, &[name], &mut control, SendFlags::NOSIGNAL).during("send the console to", path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_terminal_arrives_whatever_the_length_of_the_path() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("f".repeat(120));
        std::fs::create_dir(&folder).unwrap();
        for _ in 0..2 {
            let socket = ConsoleSocket::bind(&folder).unwrap();
            assert!(socket.take().is_err(), "nobody has sent one");
            let (mut read, write) = std::io::pipe().unwrap();
            send_console(write.as_fd(), &folder.join(ConsoleSocket::NAME)).unwrap();
            drop(write);
            std::fs::File::from(socket.take().unwrap()).write_all(b"ahoy").unwrap();
            let mut text = String::new();
            read.read_to_string(&mut text).unwrap();
            assert_eq!(text, "ahoy");
        }
    }
}
