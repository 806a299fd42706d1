//! Loading of a seccomp filter; the filter itself is data that `carrack-runtime` compiles.

use std::io;

/// One instruction of classic BPF, in the kernel's layout (`struct sock_filter`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// How many instructions a true condition skips.
    pub jump_true: u8,
    /// How many instructions a false condition skips.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());

/// Adds `filter` to the calling thread, for good. Needs `no_new_privs` or CAP_SYS_ADMIN.
/// `flags` are `SECCOMP_FILTER_FLAG_*`.
pub fn load(filter: &[Instruction], flags: u32) -> io::Result<()> {
    set_filter(filter, flags).map(|_| ())
}

/// [`load`] with a listener: the number of a descriptor (closed by `execve`) on which the calls with the verdict
/// "notify" are reported and answered.
pub fn load_with_listener(filter: &[Instruction], flags: u32) -> io::Result<i32> {
    set_filter(filter, flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32)
}

fn set_filter(filter: &[Instruction], flags: u32) -> io::Result<i32> {
    let length = u16::try_from(filter.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr() as *mut libc::sock_filter };
    // SAFETY: `Instruction` has the layout of `sock_filter`; the kernel copies `length` of them and writes none.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    match i32::try_from(result) {
        Ok(number @ 0..) => Ok(number),
        _ => Err(io::Error::last_os_error()),
    }
}
