//! Landlock: a process gives up access to all files but those below the folders of its rules, for good.
//!
//! The rights are those of the interface's third version (Linux 6.2). Later ones are not taken up by themselves, so that
//! one set of rules means the same on every kernel that takes it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What may be done with files (`LANDLOCK_ACCESS_FS_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(u64);

impl Access {
    /// Programs are executed, files read, folders listed.
    pub const READ: Self = Self(EXECUTE | READ_FILE | READ_DIR);
    /// All of it.
    pub const ALL: Self = Self((TRUNCATE << 1) - 1);

    /// What of it can be done with what is no folder.
    pub fn of_file(self) -> Self {
        Self(self.0 & (EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE))
    }
}

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const TRUNCATE: u64 = 1 << 14;

/// The version of the interface that has every right of [`Access`]: before it, what may only be read could be cut short.
pub const NEEDED_VERSION: u32 = 3;

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: i32 = 1;

/// `struct landlock_ruleset_attr` of the first version.
#[repr(C)]
struct RulesetAttributes {
    handled: u64,
}

/// `struct landlock_path_beneath_attr`
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// Rules that are not in force yet.
#[derive(Debug)]
pub struct Ruleset(OwnedFd);

/// The version of the interface in this kernel; an error where it has none or it is switched off.
pub fn version() -> io::Result<u32> {
    // SAFETY: with this flag the kernel takes a null pointer of size 0 and returns a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttributes>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).map_err(|_| io::Error::last_os_error())
}

impl Ruleset {
    /// Rules that allow nothing.
    pub fn new() -> io::Result<Self> {
        let attributes = RulesetAttributes { handled: Access::ALL.0 };
        // SAFETY: the pointer is to a structure of the size given, which the kernel reads.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const attributes,
                size_of::<RulesetAttributes>(),
                0_u32,
            )
        };
        match i32::try_from(fd) {
            // SAFETY: the kernel has just made the descriptor, and nobody else has it.
            Ok(fd @ 0..) => Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) })),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Allows `access` to a file, or to a folder and all below it. `place` may be opened with `O_PATH`.
    pub fn allow(&self, place: BorrowedFd<'_>, access: Access) -> io::Result<()> {
        let rule = PathBeneath { allowed: access.0, parent: place.as_raw_fd() };
        // SAFETY: the pointer is to a structure of the kind that the type of the rule says, which the kernel reads.
        let result = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.0.as_raw_fd(),
                RULE_PATH_BENEATH,
                &raw const rule,
                0_u32,
            )
        };
        done(result)
    }

    /// Puts the rules in force for the calling thread and all that it will start. Needs `no_new_privs` or CAP_SYS_ADMIN.
    pub fn restrict(&self) -> io::Result<()> {
        // SAFETY: takes a descriptor and no memory.
        done(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.0.as_raw_fd(), 0_u32) })
    }
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
