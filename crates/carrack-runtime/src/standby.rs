//! A container that one process creates and another starts, as the command line of the OCI runtime specification has it.
//!
//! The container's first process sets everything up and then listens on a socket in a folder of the host. Whoever may
//! open that folder starts the container by one message, and learns over the same connection whether its program runs.
//! Invariant: the socket is never a name in the container's own root, and its descriptor is closed by the exec.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::mount::{attach, attach_over_root};
use oci_spec::runtime::Hooks;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use crate::Result;
use crate::channel::{Channel, Signal};
use crate::hooks::{Kind, PlannedHooks};
use crate::oci::{State, Status};

/// How a container is started by a later process.
#[derive(Debug)]
pub struct Standby {
    /// The socket that [`listener`] has made.
    pub listener: OwnedFd,
    /// The folder of the host at which hooks find the root filesystem.
    pub place: PathBuf,
    /// The spec's hooks, of which the first process runs those that belong inside.
    pub hooks: Hooks,
    /// What hooks are told.
    pub state: State,
    /// Whether the root is exchanged by pivot_root; else by chroot, which a privileged program can leave.
    pub pivots: bool,
}

/// Name of the socket in the container's folder.
pub(crate) const SOCKET: &str = "start";

impl Standby {
    /// Makes the rootfs visible to hooks. Without a pivot it must lie over the root.
    pub(crate) fn attach(&self, rootfs: BorrowedFd<'_>) -> Result<()> {
        if !self.pivots {
            return Ok(attach_over_root(rootfs)?);
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
        match open(&self.place, flags, Mode::empty()) {
            Ok(place) => Ok(attach(rootfs, place.as_fd())?),
            // The root of a user namespace may not go through folders that are closed to others.
            Err(Errno::ACCESS) => Ok(attach_over_root(rootfs)?),
            Err(error) => Err(error).during("open", &self.place)?,
        }
    }

    /// Child, before it enters the root.
    pub(crate) fn run_create_hooks(&self) -> Result<()> {
        PlannedHooks::new(Kind::CreateContainer, &self.hooks, &self.state).run()
    }

    /// What the first process runs just before its program.
    pub(crate) fn start_hooks(&self) -> PlannedHooks {
        let state = State { status: Status::Created, ..self.state.clone() };
        PlannedHooks::new(Kind::StartContainer, &self.hooks, &state)
    }

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
