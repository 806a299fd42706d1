//! The terminal of a container: a pair from its own devpts, whose master goes to the starter.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use carrack_sys::mount::{attach, clone_file};
use carrack_sys::{Error as SysError, IoContext};
use oci_spec::runtime::Box as Size;
use rustix::fs::{Mode, OFlags, ResolveFlags, fstatfs, openat2};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::Result;
use crate::rootfs::{Kind, Rootfs};

const PTMX: &str = "/dev/pts/ptmx";
const DEVPTS_MAGIC: rustix::fs::FsWord = 0x1cd1;

/// Both sides of a new terminal.
#[derive(Debug)]
pub(crate) struct Console {
    pub master: OwnedFd,
    pub terminal: OwnedFd,
}

impl Console {
    /// Opens a terminal of the devpts that `rootfs` has at /dev/pts. In a running container that place is the
    /// container's to change, so links are refused and the filesystem is checked (CVE-2025-52565).
    pub fn open(rootfs: &Rootfs, size: Option<Size>, owner: u32) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let master = openat2(rootfs.as_fd(), PTMX, flags, Mode::empty(), resolve).during("open", PTMX)?;
        if fstatfs(&master).during("examine", PTMX)?.f_type != DEVPTS_MAGIC {
            let source = std::io::Error::other("expected a file of devpts");
            return Err(SysError { verb: "use", path: PTMX.into(), source }.into());
        }
        unlockpt(&master).during("unlock", "the console")?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = ioctl_tiocgptpeer(&master, flags).during("open", "the console")?;
        rustix::fs::fchown(&terminal, Some(rustix::fs::Uid::from_raw(owner)), None)
            .during("change the owner of", "the console")?;
        if let Some(size) = size {
            let part = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
            let size = Winsize {
                ws_row: part(size.height()),
                ws_col: part(size.width()),
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            tcsetwinsize(&master, size).during("set the size of", "the console")?;
        }
        Ok(Self { master, terminal })
    }

    /// Shows the terminal as /dev/console.
    pub fn place(&self, rootfs: &Rootfs) -> Result<()> {
        let target = rootfs.find_or_make(Path::new("/dev/console"), Kind::File)?;
        Ok(attach(clone_file(self.terminal.as_fd(), false)?.as_fd(), target.as_fd())?)
    }

    /// Makes the terminal the controlling one of the session and standard input, output and error.
    pub fn take(&self) -> Result<()> {
        rustix::process::ioctl_tiocsctty(&self.terminal).during("take", "the console")?;
        let dup = |result: rustix::io::Result<()>| result.during("duplicate", "the console");
        dup(rustix::stdio::dup2_stdin(&self.terminal))?;
        dup(rustix::stdio::dup2_stdout(&self.terminal))?;
        Ok(dup(rustix::stdio::dup2_stderr(&self.terminal))?)
    }
}
