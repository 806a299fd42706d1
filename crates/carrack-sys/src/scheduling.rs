//! How the kernel runs the calling process: scheduler, I/O priority, personality.
//!
//! Invariant: each function changes the calling thread only; what is refused changes nothing.

use std::io;

/// `struct sched_attr` of the kernel, in its first form (`SCHED_ATTR_SIZE_VER0`), which every kernel takes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// Size of this structure; set by [`set_scheduler`].
    pub size: u32,
    /// `SCHED_*`
    pub policy: u32,
    /// `SCHED_FLAG_*`
    pub flags: u64,
    /// Nice value, for the time-sharing policies.
    pub nice: i32,
    /// Static priority, for the realtime policies.
    pub priority: u32,
    /// For the deadline policy, in nanoseconds.
    pub runtime: u64,
    /// For the deadline policy, in nanoseconds.
    pub deadline: u64,
    /// For the deadline policy, in nanoseconds.
    pub period: u64,
}

/// Sets the scheduling policy and its parameters.
pub fn set_scheduler(scheduling: Scheduling) -> io::Result<()> {
    let attributes = Scheduling { size: size_of::<Scheduling>() as u32, ..scheduling };
    // SAFETY: the structure is as long as its first field says; the kernel copies it.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

/// Sets the I/O priority: `class` 1 (realtime), 2 (best effort) or 3 (idle), `level` 0 to 7.
pub fn set_io_priority(class: u16, level: u16) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    let priority = libc::c_int::from(class << 13 | level);
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) })
}

/// Sets the execution domain (`PER_*`).
pub fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_personality, libc::c_ulong::from(domain)) })
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
