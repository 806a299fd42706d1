//! The shared memory of a running container, for another that joins its IPC namespace.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use carrack_sys::IoContext;
use carrack_sys::mount::clone_file;
use carrack_sys::process::{descriptor_from_child, join_namespaces, namespace};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, openat2};

use crate::Result;

const SHM: &str = "/dev/shm";
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

/// A detached copy of the mount at `/dev/shm` of the container whose first process is `target`. What lies there is the
/// container's to change: links are refused, and anything but memory. The caller has one thread.
pub fn shared_memory_of(target: BorrowedFd<'_>) -> Result<OwnedFd> {
    let open = || {
        join_namespaces(target, namespace::MOUNT)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let memory = openat2(CWD, SHM, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
        if fstatfs(&memory)?.f_type != TMPFS_MAGIC {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        clone_file(memory.as_fd(), false).map_err(|error| error.source)
    };
    Ok(descriptor_from_child(open).during("share the memory of the other container at", SHM)?)
}
