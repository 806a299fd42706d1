//! Where an archive is written: a file that gets its name when it is complete, or a stream.
//!
//! Invariant: nothing is sought, so that a pipe will do.

use std::fs::{File, OpenOptions, metadata};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use carrack_sys::{IoContext, atomic};

use super::staged::{StagedFile, folder_of};
use crate::Result;

const COPY_BYTES: usize = 128 << 10;
/// So many bytes are handed to the disk at once, so that little is left for the sync at the end.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// An open place for the bytes of an archive; a file that is dropped before [`Output::finish`] leaves nothing.
pub struct Output {
    sink: Sink,
    /// For messages, and the name of the file.
    path: PathBuf,
}

enum Sink {
    /// Named `path` at the end.
    Staged(StagedFile),
    /// A pipe, a terminal, a device, or a file that somebody else has opened.
    Stream(File),
}

impl Output {
    /// Begins to write `file`. A regular file is replaced when all is written; a device or a pipe is written to.
    pub fn create(file: &Path) -> Result<Self> {
        let is_special = metadata(file).is_ok_and(|metadata| !metadata.is_file());
        let sink = match is_special {
            true => Sink::Stream(OpenOptions::new().write(true).open(file).during("open", file)?),
            false => Sink::Staged(StagedFile::create(folder_of(file))?),
        };
        Ok(Self { sink, path: file.to_owned() })
    }

    /// Writes to a file that is open already, such as standard output; `name` is for messages.
    pub fn stream(file: File, name: &str) -> Self {
        Self { sink: Sink::Stream(file), path: name.into() }
    }

    /// The file's name, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Copies `length` bytes of `source`; returns how many there were.
    pub fn copy_from(&mut self, source: &File, length: u64) -> io::Result<u64> {
        let mut source = source.take(length);
        match &mut self.sink {
            Sink::Staged(staged) => copy_to_disk(&mut source, staged.file()),
            // Into a pipe the kernel moves pages.
            Sink::Stream(file) => io::copy(&mut source, file),
        }
    }

    /// Names the file and makes it durable.
    pub fn finish(self) -> Result<()> {
        match self.sink {
            Sink::Stream(mut stream) => Ok(stream.flush().during("write", &self.path)?),
            Sink::Staged(file) => {
                file.name(&self.path)?;
                Ok(atomic::sync_parent(&folder_of(&self.path).join("any"))?)
            }
        }
    }

    fn file(&mut self) -> &mut File {
        match &mut self.sink {
            Sink::Staged(staged) => staged.file(),
            Sink::Stream(file) => file,
        }
    }
}

/// Copies between files, and hands what is written to the disk meanwhile.
///
/// Not `copy_file_range`: where blocks cannot be shared it moves page after page, at twice the CPU time of this.
fn copy_to_disk(source: &mut impl Read, file: &mut File) -> io::Result<u64> {
    let mut buffer = vec![0; COPY_BYTES];
    let begin = file.stream_position()?;
    let (mut position, mut handed_over) = (begin, begin);
    loop {
        let count = match source.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        if count == 0 {
            return Ok(position - begin);
        }
        file.write_all(&buffer[..count])?;
        position += count as u64;
        if position - handed_over >= WRITEBACK_BYTES {
            atomic::start_writeback(file, handed_over, position - handed_over);
            handed_over = position;
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}
