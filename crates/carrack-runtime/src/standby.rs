//! A container that one process creates and another starts, as the command line of the OCI runtime specification has it.
//!
//! The container's first process sets everything up and then listens on a socket in a folder of the host. Whoever may
//! open that folder starts the container by one message, and learns over the same connection whether its program runs.
//! Invariant: the socket is never a name in the container's own root, and its descriptor is closed by the exec.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use carrack_sys::IoContext;
use rustix::fs::{Mode, OFlags, open};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use crate::Result;
use crate::channel::{Channel, Signal};

/// How a container is started by a later process.
#[derive(Debug)]
pub struct Standby {
    /// The socket that [`listener`] has made.
    pub listener: OwnedFd,
    /// Whether the root is exchanged by pivot_root; else by chroot, which a privileged program can leave.
    pub pivots: bool,
}

/// Name of the socket in the container's folder.
pub(crate) const SOCKET: &str = "start";

impl Standby {
    /// Child: waits for the starter.
    pub(crate) fn wait(self) -> Result<Channel> {
        Channel::accept_start(&self.listener)
    }
}

/// Makes the socket in the container's `folder`.
pub fn listener(folder: &Path) -> Result<OwnedFd> {
    let socket = new_socket()?;
    let (_open, address) = address(folder, SOCKET)?;
    bind(&socket, &address).during("make the socket", folder.join(SOCKET))?;
    listen(&socket, 4).during("listen on", folder.join(SOCKET))?;
    Ok(socket)
}

/// Starts the container whose first process listens in `folder`; returns when its program runs, or with the reason why
/// it does not. `told` is called as soon as the container knows that it is to start, `take_listener` with the number of
/// its seccomp listener where it has one.
pub fn start_standing(
    folder: &Path,
    told: impl FnOnce(),
    take_listener: impl FnMut(i32) -> Result<()>,
) -> Result<()> {
    let socket = new_socket()?;
    let (_open, address) = address(folder, SOCKET)?;
    connect(&socket, &address).during("connect to", folder.join(SOCKET))?;
    let channel = Channel::connected(socket);
    channel.signal(Signal::Start)?;
    told();
    channel.outcome(take_listener).map(drop)
}

fn new_socket() -> Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    Ok(socket.during("create", "a socket")?)
}

/// The name of a socket may be 107 bytes long, that of its folder more: it is named by a descriptor.
pub(crate) fn address(folder: &Path, name: &str) -> Result<(OwnedFd, SocketAddrUnix)> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
    let open = open(folder, flags, Mode::empty()).during("open", folder)?;
    let path = format!("/proc/self/fd/{}/{name}", open.as_raw_fd());
    let address = SocketAddrUnix::new(&path).during("name", folder.join(name))?;
    Ok((open, address))
}
