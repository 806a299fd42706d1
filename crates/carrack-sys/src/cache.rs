//! The kernel's cache of files, for large ones that are read or written once.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::os::fd::AsRawFd;

use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags};

/// `RWF_DONTCACHE` (`linux/fs.h`, Linux 6.14): what was not in the cache leaves it again.
const UNCACHED: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// Reads a file from where it stands, and leaves in the cache what was there before; an older kernel, or a file system
/// that cannot, keeps all.
#[derive(Debug)]
pub struct Passing<'a> {
    file: &'a File,
    flags: Cell<ReadWriteFlags>,
}

impl<'a> Passing<'a> {
    /// Nothing is read yet.
    pub fn new(file: &'a File) -> Self {
        Self { file, flags: Cell::new(UNCACHED) }
    }
}

impl Read for Passing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        /// At the file's own position, which moves.
        const POSITION: u64 = u64::MAX;
        let mut read =
            || rustix::io::preadv2(self.file, &mut [IoSliceMut::new(buffer)], POSITION, self.flags.get());
        match read() {
            Err(Errno::OPNOTSUPP) if !self.flags.get().is_empty() => {
                self.flags.set(ReadWriteFlags::empty());
                Ok(read()?)
            }
            result => Ok(result?),
        }
    }
}

/// Lets writes of whole, aligned blocks go past the cache, or through it again; not every file system can.
pub fn bypass(file: &File, is_on: bool) -> io::Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, is_on);
    Ok(rustix::fs::fcntl_setfl(file, flags)?)
}

/// Asks the kernel to begin writing a part of a file to disk; a hint, whose failure means nothing.
pub fn start_writeback(file: &File, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else { return };
    // SAFETY: no memory is passed.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    #[test]
    fn what_passes_is_what_the_file_has() {
        for folder in [std::env::temp_dir().as_path(), std::path::Path::new("/dev/shm")] {
            let mut file = tempfile::tempfile_in(folder).unwrap();
            let bytes: Vec<u8> = (0..300_000_u32).map(|number| (number * 31 % 251) as u8).collect();
            file.write_all(&bytes).unwrap();
            file.seek(SeekFrom::Start(7)).unwrap();
            let mut read = Vec::new();
            Passing::new(&file).take(200_000).read_to_end(&mut read).unwrap();
            assert_eq!(read, bytes[7..200_007]);
            assert_eq!(file.stream_position().unwrap(), 200_007);
        }
    }
}
