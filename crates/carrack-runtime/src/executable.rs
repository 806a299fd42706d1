//! The runtime's own program, out of reach of the container (CVE-2019-5736).
//!
//! A container can make the runtime execute itself (`#!/proc/self/exe`) and then open the file behind that program
//! for writing. Opened through a read-only mount, the file has no path on which that succeeds.

use std::os::fd::OwnedFd;
use std::path::Path;

use carrack_sys::IoContext;
use carrack_sys::mount::{Attributes, Propagation, clone_path, set_attributes};
use rustix::fs::{Mode, OFlags, StatVfsMountFlags, open};
use rustix::mount::MountAttrFlags;
use std::os::fd::AsFd;

use crate::{Error, Result};

/// The calling program on a detached read-only mount. Whoever starts the process that calls [`crate::create`] or
/// [`crate::exec`] executes `/proc/self/fd/N` of this descriptor, which costs no exec more than `/proc/self/exe`.
pub fn read_only() -> Result<OwnedFd> {
    if is_read_only()? {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        return Ok(open("/proc/self/exe", flags, Mode::empty()).during("open", "/proc/self/exe")?);
    }
    let mount = clone_path(Path::new("/proc/self/exe"), false)?;
    let mut attributes = Attributes::set(MountAttrFlags::MOUNT_ATTR_RDONLY);
    attributes.propagation = Some(Propagation::Private);
    set_attributes(mount.as_fd(), attributes, false)?;
    Ok(mount)
}

/// Whether the calling program was started so.
pub fn is_read_only() -> Result<bool> {
    let file_system = rustix::fs::statvfs("/proc/self/exe").during("examine", "/proc/self/exe")?;
    Ok(file_system.f_flag.contains(StatVfsMountFlags::RDONLY))
}

pub(crate) fn require_read_only() -> Result<()> {
    if is_read_only()? { Ok(()) } else { Err(Error::ExecutableWritable) }
}
