//! Programs that decide which devices the processes of a cgroup may use; the program itself is data that
//! `carrack-runtime` compiles.
//!
//! Invariant: a program stays attached as long as its cgroup exists, whoever closes its descriptor.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction of eBPF, in the kernel's layout (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination in the lower half, source in the upper.
    pub registers: u8,
    /// How many instructions a jump skips, or the place of a load.
    pub offset: i16,
    /// Operand.
    pub immediate: i32,
}

// Values of linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

#[repr(C)]
struct LoadArguments {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct AttachArguments {
    target: i32,
    program: i32,
    kind: u32,
    flags: u32,
    replaced: i32,
    _padding: u32,
}

#[repr(C)]
struct QueryArguments {
    target: i32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    _padding: u32,
}

#[repr(C)]
struct OpenArguments {
    id: u32,
    next: u32,
    flags: u32,
    _padding: u32,
}

/// Has the kernel verify a program for [`attach_device_program`].
pub fn load_device_program(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let count =
        u32::try_from(instructions.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut name = [0; 16];
    name[..15].copy_from_slice(b"carrack_devices");
    let mut arguments = LoadArguments {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: count,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name,
    };
    let fd = call(PROG_LOAD, &mut arguments)?;
    // SAFETY: BPF_PROG_LOAD returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts the program in force for `cgroup` and all below it, in place of the one that was attached there before.
pub fn attach_device_program(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>) -> io::Result<()> {
    let replaced = attached_device_program(cgroup)?;
    let mut arguments = AttachArguments {
        target: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        kind: ATTACH_CGROUP_DEVICE,
        // A cgroup below may add a program, which can only take more away.
        flags: if replaced.is_some() { ALLOW_MULTI | REPLACE } else { ALLOW_MULTI },
        replaced: replaced.as_ref().map_or(0, AsRawFd::as_raw_fd),
        _padding: 0,
    };
    call(PROG_ATTACH, &mut arguments).map(drop)
}

/// The program attached to the cgroup itself, the first of several.
fn attached_device_program(cgroup: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let mut ids = [0u32; 64];
    let mut query = QueryArguments {
        target: cgroup.as_raw_fd(),
        kind: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        _padding: 0,
    };
    call(PROG_QUERY, &mut query)?;
    if query.count == 0 {
        return Ok(None);
    }
    let fd = call(PROG_GET_FD_BY_ID, &mut OpenArguments { id: ids[0], next: 0, flags: 0, _padding: 0 })?;
    // SAFETY: BPF_PROG_GET_FD_BY_ID returned a new descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

fn call<T>(command: libc::c_int, arguments: &mut T) -> io::Result<libc::c_int> {
    let size = size_of::<T>();
    // SAFETY: the structs above begin as the kernel's `union bpf_attr` does for their command; pointers in them are to
    // memory of the lengths said, which the caller keeps alive during the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(arguments), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
