//! Files with holes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Gives the blocks of a range back, which reads as zeros then; where the file system cannot, nothing happens.
pub fn punch(file: &File, range: Range<u64>) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fallocate(file, flags, range.start, range.end - range.start) {
        Err(Errno::OPNOTSUPP) => Ok(()),
        result => Ok(result?),
    }
}

/// Whether nobody else has the file open, not even the kernel as the device of a mount. It must not be opened meanwhile.
pub fn is_mine_alone(file: &File) -> io::Result<bool> {
    let lease = |kind: libc::c_int| {
        // SAFETY: no memory is passed.
        match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    match lease(libc::F_WRLCK) {
        Ok(()) => lease(libc::F_UNLCK).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_range_is_given_back_when_nobody_else_has_the_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 1 << 20]).unwrap();
        file.as_file().sync_all().unwrap();
        assert!(is_mine_alone(file.as_file()).unwrap());
        let other = File::open(file.path()).unwrap();
        assert!(!is_mine_alone(file.as_file()).unwrap());
        drop(other);
        let before = file.as_file().metadata().unwrap().blocks();
        punch(file.as_file(), 4096..(1 << 20) - 4096).unwrap();
        let metadata = file.as_file().metadata().unwrap();
        assert_eq!((metadata.len(), metadata.blocks() < before / 4), (1 << 20, true));
    }
}
