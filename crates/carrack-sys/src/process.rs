//! Processes: what `rustix` leaves out because it is only sound in a process with one thread.
//!
//! Invariant: [`clone_process`] refuses to run in a process with a second thread, so the child may use the allocator
//! and locks as the parent could.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::ptr;

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus};

/// Flags of `clone3`, `setns` and `unshare` that name namespaces.
pub mod namespace {
    /// Mounts.
    pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
    /// Root of the cgroup view.
    pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// Host name.
    pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
    /// System V and POSIX message objects.
    pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
    /// Users, groups and the capabilities over all else.
    pub const USER: u64 = libc::CLONE_NEWUSER as u64;
    /// Process ids.
    pub const PID: u64 = libc::CLONE_NEWPID as u64;
    /// Network.
    pub const NETWORK: u64 = libc::CLONE_NEWNET as u64;
    /// Boot and monotonic clock offsets.
    pub const TIME: u64 = 0x80;
}

/// Which of the two processes returns from [`clone_process`].
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The caller.
    Parent {
        /// The id of the child in the caller's pid namespace.
        pid: Pid,
        /// A handle of the child that no other process can come to mean.
        pidfd: OwnedFd,
    },
}

/// How many threads the calling process has.
fn thread_count() -> io::Result<u64> {
    // A folder has two links more than sub-folders, and /proc/self/task one sub-folder a thread.
    Ok(std::fs::metadata("/proc/self/task")?.nlink().saturating_sub(2))
}

fn require_one_thread() -> io::Result<()> {
    match thread_count()? {
        1 => Ok(()),
        count => Err(io::Error::other(format!("expected a process with one thread, got {count}"))),
    }
}

/// Makes a copy of the calling process in new `namespaces` (flags of [`namespace`]), placed in the cgroup v2
/// folder `cgroup` from its first instruction on.
pub fn clone_process(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    require_one_thread()?;
    clone3(namespaces, libc::SIGCHLD as u64, cgroup)
}

/// [`clone_process`] from where `enter` has gone: a process in between, born in the cgroup `between`, calls it and then
/// makes the child, which is nevertheless the caller's own. So a child is born inside namespaces that its parent stays
/// out of. `enter` may close all descriptors but the one that it is given.
pub fn clone_process_from(
    between: Option<BorrowedFd<'_>>,
    enter: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    namespaces: u64,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Cloned> {
    let (ours, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    match clone_process(0, between)? {
        Cloned::Child => {
            drop(ours);
            // The child takes the signal at its end from the process in between.
            let clone = || clone3(namespaces | libc::CLONE_PARENT as u64, 0, cgroup);
            let outcome = match enter(theirs.as_fd()).and_then(|()| clone()) {
                Ok(Cloned::Child) => return Ok(Cloned::Child),
                Ok(Cloned::Parent { pidfd, .. }) => Ok(pidfd),
                Err(error) => Err(error.raw_os_error().unwrap_or(libc::EIO)),
            };
            let sent = send_outcome(&theirs, &outcome);
            // SAFETY: ends this copy of the process without running what is registered for the caller's own end.
            unsafe { libc::_exit(i32::from(sent.is_err())) }
        }
        Cloned::Parent { pidfd: between, .. } => {
            drop(theirs);
            let received = receive_outcome(&ours);
            wait_pidfd(between.as_fd())?;
            let pidfd = received??;
            Ok(Cloned::Parent { pid: pid_of(pidfd.as_fd())?, pidfd })
        }
    }
}

/// A descriptor that a child process opens where `open` goes, and this process does not.
pub fn descriptor_from_child(open: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    let (ours, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    match clone_process(0, None)? {
        Cloned::Child => {
            let outcome = open().map_err(|error| error.raw_os_error().unwrap_or(libc::EIO));
            let sent = send_outcome(&theirs, &outcome);
            // SAFETY: ends this copy of the process without running what is registered for the caller's own end.
            unsafe { libc::_exit(i32::from(sent.is_err())) }
        }
        Cloned::Parent { pidfd, .. } => {
            drop(theirs);
            let received = receive_outcome(&ours);
            wait_pidfd(pidfd.as_fd())?;
            received?
        }
    }
}

fn send_outcome(socket: &OwnedFd, outcome: &Result<OwnedFd, i32>) -> io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let rights = outcome.as_ref().ok().map(|pidfd| [pidfd.as_fd()]);
    if let Some(rights) = &rights {
        control.push(SendAncillaryMessage::ScmRights(rights));
    }
    let number = outcome.as_ref().err().copied().unwrap_or(0).to_ne_bytes();
    rustix::net::sendmsg(socket, &[io::IoSlice::new(&number)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive_outcome(socket: &OwnedFd) -> io::Result<io::Result<OwnedFd>> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut number = [0; 4];
    let mut data = [io::IoSliceMut::new(&mut number)];
    rustix::net::recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let pidfd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(pidfd.ok_or_else(|| match i32::from_ne_bytes(number) {
        0 => io::Error::other("the process in between ended without a word"),
        number => io::Error::from_raw_os_error(number),
    }))
}

/// The id, in the caller's pid namespace, of the process behind `pidfd`.
fn pid_of(pidfd: BorrowedFd<'_>) -> io::Result<Pid> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    let pid = number.and_then(|text| text.trim().parse().ok()).and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("the process ended at once"))
}

fn clone3(flags: u64, exit_signal: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: `clone_args` is plain integers, for which zero means "not used".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = exit_signal;
    if let Some(cgroup) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no CLONE_VM: the child has its own copy of the memory; one thread: no lock is held by another.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: CLONE_PIDFD stored a new descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            Ok(Cloned::Parent {
                pid: pid.ok_or_else(|| io::Error::other("clone3: pid out of range"))?,
                pidfd,
            })
        }
    }
}

/// Plain `fork`, which unlike `clone3` passes the container's seccomp profile; `None` in the child.
///
/// The caller must know that the process has one thread: inside a container `/proc` may be absent or false.
pub fn fork_single_threaded() -> io::Result<Option<Pid>> {
    // SAFETY: musl's fork re-initialises its own locks; the caller has no second thread that holds another.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Moves the process into `namespaces` of what `fd` is: a namespace file (one flag) or a pidfd (several).
/// A pid namespace is joined by later children only.
pub fn join_namespaces(fd: BorrowedFd<'_>, namespaces: u64) -> io::Result<()> {
    let flags = flags_of_int(namespaces)?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::setns(fd.as_raw_fd(), flags) })
}

/// Which kind of namespace (a flag of [`namespace`]) a namespace file is of.
pub fn namespace_kind(file: BorrowedFd<'_>) -> io::Result<u64> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703_u32 as libc::Ioctl;
    // SAFETY: this request takes no argument.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    u64::try_from(kind).map_err(|_| io::Error::last_os_error())
}

/// Moves the process into new `namespaces`.
pub fn unshare(namespaces: u64) -> io::Result<()> {
    let flags = flags_of_int(namespaces)?;
    // SAFETY: no memory is passed, and the flags of namespaces do not unshare the descriptor table.
    check(unsafe { libc::unshare(flags) })
}

fn flags_of_int(namespaces: u64) -> io::Result<libc::c_int> {
    u32::try_from(namespaces).map(u32::cast_signed).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Closes every descriptor from `first` on. The caller must own none of them in a live `OwnedFd` that it still uses.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } as libc::c_int)
}

/// Marks every descriptor from `first` on as one that `execve` closes.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) } as libc::c_int)
}

/// Closes every descriptor from 3 on but those of `kept`. Whoever owns one of the others must not use it again, nor
/// drop it.
pub fn close_all_but(kept: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().filter_map(|number| u32::try_from(*number).ok()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for next in kept.into_iter().map(u64::from).chain([u64::from(u32::MAX) + 1]) {
        if first < next {
            // SAFETY: no memory is passed; what is closed is not used again, as the caller has promised.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, next - 1, 0) } as libc::c_int)?;
        }
        first = first.max(next + 1);
    }
    Ok(())
}

/// Lets the open descriptor `number` pass through `execve`. The caller owns it, or nobody does.
pub fn keep_on_exec(number: u32) -> io::Result<()> {
    set_descriptor_flags(number, 0)
}

/// Lets `execve` close the descriptor `number`; an error when nothing is open under that number.
pub fn close_on_exec(number: u32) -> io::Result<()> {
    set_descriptor_flags(number, libc::FD_CLOEXEC)
}

/// Closes the descriptor `number`, which this process got when it was executed and nothing here owns.
pub fn close_inherited(number: u32) -> io::Result<()> {
    let number = i32::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: by contract no value of this process has the descriptor.
    check(unsafe { libc::close(number) })
}

fn set_descriptor_flags(number: u32, flags: libc::c_int) -> io::Result<()> {
    let number = i32::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: no memory is passed, and the flag does not change what the descriptor is.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, flags) })
}

/// Replaces the program of this process; returns only on failure.
pub fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end in a null pointer, and they and the strings live until the call returns.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Gives every signal its default meaning and unblocks all, as a new program expects to find them.
pub fn reset_signals() -> io::Result<()> {
    // The kernel's struct (handler, flags, restorer, mask) of zeros is SIG_DFL. Not through libc, which keeps a few
    // signals to itself and leaves those as the parent had them.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: `default` is as long as the kernel reads. SIGKILL and SIGSTOP are refused: nothing to reset.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    mask_signals(libc::SIG_SETMASK, &[])
}

/// Blocks all signals, so that they wait for [`wait_signal`].
pub fn block_signals() -> io::Result<()> {
    mask_signals(libc::SIG_BLOCK, &(1..=31).collect::<Vec<_>>())
}

fn mask_signals(how: libc::c_int, signals: &[libc::c_int]) -> io::Result<()> {
    let set = signal_set(signals);
    // SAFETY: `set` is initialised and outlives the call.
    check(unsafe { libc::sigprocmask(how, &raw const set, ptr::null_mut()) })
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    // SAFETY: `sigset_t` is plain data and initialised by sigemptyset; sigaddset refuses numbers out of range.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// Waits for the next blocked signal.
pub fn wait_signal() -> io::Result<i32> {
    let set = signal_set(&(1..=31).collect::<Vec<_>>());
    loop {
        // SAFETY: `set` is initialised; no siginfo is asked for.
        match unsafe { libc::sigwaitinfo(&raw const set, ptr::null_mut()) } {
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Err(io::Error::last_os_error()),
            signal => return Ok(signal),
        }
    }
}

/// Waits until a signal ends the process.
pub fn wait_forever() -> ! {
    loop {
        // SAFETY: no memory is passed.
        unsafe { libc::pause() };
    }
}

/// Sends a signal by number, realtime signals included.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    pidfd_send_signal(pidfd, signal, 0)
}

/// Sends a signal to all processes of the group that the process leads; before Linux 6.9 to itself alone.
pub fn send_signal_to_group(leader: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;
    match pidfd_send_signal(leader, signal, PIDFD_SIGNAL_PROCESS_GROUP) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => send_signal(leader, signal),
        sent => sent,
    }
}

fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32, flags: libc::c_uint) -> io::Result<()> {
    let info = ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks the kernel to fill one in as kill(2) does.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, flags) }
        as libc::c_int)
}

/// Sends a signal to a child by its pid; for pid 1 of a container, which has no other handle of its child.
pub fn send_signal_to_child(child: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::kill(child.as_raw_pid(), signal) })
}

/// Waits until the child behind `pidfd` has ended, and takes its status.
pub fn wait_pidfd(pidfd: BorrowedFd<'_>) -> io::Result<WaitIdStatus> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Ok(Some(status)) => return Ok(status),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Gives the process an own, empty session keyring, so that it does not hold the keys of its starter.
pub fn join_new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let result =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<libc::c_char>()) };
    check(if result < 0 { -1 } else { 0 })
}

/// The working directory as the kernel names it; one outside the root begins with "(unreachable)".
pub fn kernel_working_directory() -> io::Result<Vec<u8>> {
    let mut buffer = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: the buffer is as long as is said.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    buffer.truncate(length.saturating_sub(1)); // without the final zero
    Ok(buffer)
}

/// Clock ticks between boot and the start of a process (`/proc/PID/stat`, field 22): with the pid, it names the process.
pub fn start_time_ticks(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program, in brackets, may hold anything.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
    let start = fields.and_then(|fields| fields.split_ascii_whitespace().nth(19));
    start.and_then(|text| text.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_cloned() {
        let (finish, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        let error = clone_process(0, None).unwrap_err();
        assert!(error.to_string().contains("one thread"), "{error}");
        drop(finish);
        let _ = thread.join().unwrap();
    }

    #[test]
    fn the_working_directory_is_the_one_the_kernel_knows() {
        let expected = std::env::current_dir().unwrap();
        assert_eq!(kernel_working_directory().unwrap(), expected.as_os_str().as_encoded_bytes());
    }
}
