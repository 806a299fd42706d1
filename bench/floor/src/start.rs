//! The floor of a start: `carrack-floor start LOWER SCRATCH PROGRAM [ARGUMENT...]` runs a program in a container on the
//! folder LOWER, and does only what no engine can leave out: six namespaces, an overlay with folders of its own below
//! SCRATCH, /proc, /dev with null, a new root, a seccomp filter. The benchmark times it beside the engines.
//!
//! What always holds: the program's exit code is the exit code, and the folders are gone when it returns.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, unmount,
};

use crate::Failure;

const NAMESPACES: c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

/// Runs the program; its exit code.
pub fn start(arguments: &[String]) -> Result<u8, Failure> {
    let [lower, scratch, program @ ..] = arguments else {
        return Err("usage: carrack-floor start LOWER SCRATCH PROGRAM [ARGUMENT...]".into());
    };
    let program = program.iter().map(|word| CString::new(word.as_str())).collect::<Result<Vec<_>, _>>()?;
    let scratch = Path::new(scratch).join(format!("floor-{}", std::process::id()));
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    for folder in [&scratch, &upper, &work] {
        fs::create_dir(folder)?;
    }
    let paths = [Path::new(lower), &upper, &work].map(|path| path.to_string_lossy().into_owned());
    let root = new_mount("overlay", &["lowerdir", "upperdir", "workdir"].map(String::from), &paths)?;

    // SAFETY: `clone_args` is plain integers, for which zero means "not used".
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.flags = NAMESPACES as u64;
    how.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child has memory of its own, and this process has one thread.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut how, size_of::<libc::clone_args>()) } {
        -1 => Err(io::Error::last_os_error().into()),
        0 => {
            let failed = become_program(&root, &program);
            // SAFETY: ends the child, whose exit handlers are the parent's.
            unsafe { libc::_exit(if failed.is_err() { 125 } else { 127 }) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: the kernel writes one integer.
            if unsafe { libc::waitpid(c_int::try_from(pid)?, &raw mut status, 0) } == -1 {
                return Err(io::Error::last_os_error().into());
            }
            drop(root);
            fs::remove_dir_all(&scratch)?;
            Ok(u8::try_from(libc::WEXITSTATUS(status))?)
        }
    }
}

/// A detached mount of a new filesystem.
fn new_mount(kind: &str, keys: &[String], values: &[String]) -> Result<OwnedFd, Failure> {
    let filesystem = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in keys.iter().zip(values) {
        fsconfig_set_string(filesystem.as_fd(), key, value)?;
    }
    fsconfig_create(filesystem.as_fd())?;
    Ok(fsmount(filesystem.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

fn place(mount: &OwnedFd, path: &str) -> Result<(), Failure> {
    Ok(move_mount(mount.as_fd(), "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Child: returns only when it cannot.
fn become_program(root: &OwnedFd, program: &[CString]) -> Result<(), Failure> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let null = rustix::fs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    place(root, "/")?;
    rustix::process::fchdir(root)?;
    place(&new_mount("proc", &[], &[])?, "proc")?;
    place(&new_mount("tmpfs", &["mode".into()], &["755".into()])?, "dev")?;
    fs::write("dev/null", "")?;
    let null = format!("/proc/self/fd/{}", null.as_raw_fd());
    rustix::mount::mount_bind(&null, "dev/null")?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    rustix::thread::set_no_new_privs(true)?;
    filter()?;
    let mut arguments: Vec<_> = program.iter().map(|word| word.as_ptr()).collect();
    arguments.push(std::ptr::null());
    let environment = [c"PATH=/usr/bin:/bin".as_ptr(), std::ptr::null()];
    // SAFETY: both arrays end in a null pointer and outlive the call.
    unsafe { libc::execve(arguments[0], arguments.as_ptr(), environment.as_ptr()) };
    Err(io::Error::last_os_error().into())
}

/// Forbids what no container may, by a filter as short as can be.
fn filter() -> Result<(), Failure> {
    const FORBIDDEN: [libc::c_long; 6] = [
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_delete_module,
        libc::SYS_bpf,
        libc::SYS_reboot,
        libc::SYS_keyctl,
    ];
    let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut code = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for (index, number) in FORBIDDEN.into_iter().enumerate() {
        let to_end = u8::try_from(FORBIDDEN.len() - index)?;
        code.push(statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, to_end, 0, u32::try_from(number)?));
    }
    code.push(statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    code.push(statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    let program = libc::sock_fprog { len: u16::try_from(code.len())?, filter: code.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which outlives the call.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
        -1 => Err(io::Error::last_os_error().into()),
        _ => Ok(()),
    }
}
