//! Signals as data: blocked for the whole process and read from a descriptor.

use std::fs::File;
use std::io::{self, Read};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// A signalfd(2): readable when one of its signals has arrived. Dropping it lets the signals act again.
#[derive(Debug)]
pub struct SignalFd {
    file: File,
    signals: libc::sigset_t,
}

impl SignalFd {
    /// Takes `signals` (numbers) from now on; call it before other threads exist, they inherit the mask.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        let set = set_of(signals)?;
        // SAFETY: `set` is an initialised set; the old mask is not asked for.
        if unsafe { libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `set` is an initialised set; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made the descriptor, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { file: fd.into(), signals: set })
    }

    /// The next signal that has arrived; `None` when there is none now.
    pub fn take(&mut self) -> io::Result<Option<i32>> {
        let mut buffer = [0u8; size_of::<libc::signalfd_siginfo>()];
        match self.file.read(&mut buffer) {
            // The signal's number is the first field of `struct signalfd_siginfo`.
            Ok(_) => Ok(Some(i32::from_ne_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for SignalFd {
    fn drop(&mut self) {
        // SAFETY: `signals` is an initialised set; the old mask is not asked for.
        unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &self.signals, std::ptr::null_mut()) };
    }
}

fn set_of(signals: &[i32]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set that it is given.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for signal in signals {
        // SAFETY: `set` is initialised; a number that is no signal is refused.
        if unsafe { libc::sigaddset(&mut set, *signal) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read_and_not_acted_on() {
        let mut signals = SignalFd::new(&[libc::SIGUSR1]).unwrap();
        assert_eq!(signals.take().unwrap(), None);
        // SAFETY: raise has no preconditions.
        unsafe { libc::raise(libc::SIGUSR1) };
        assert_eq!(signals.take().unwrap(), Some(libc::SIGUSR1));
    }

    #[test]
    fn refuses_what_is_no_signal() {
        assert!(SignalFd::new(&[4096]).is_err());
    }
}
