//! Where an archive is written: a file that gets its name when it is complete, or a stream.
//!
//! Invariant: nothing is sought, so that a pipe will do.

use std::fs::{File, OpenOptions, metadata};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use carrack_content::Blob;
use carrack_sys::cache::Passing;
use carrack_sys::{IoContext, atomic};

use super::staged::{StagedFile, folder_of};
use crate::Result;

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

    /// Copies a blob; returns how many bytes it had.
    pub fn copy_from(&mut self, blob: &Blob) -> io::Result<u64> {
        let mut copied = 0;
        for (mut file, range) in blob.segments() {
            file.seek(SeekFrom::Start(range.start))?;
            let length = range.end - range.start;
            copied += match &mut self.sink {
                // Not `copy_file_range`: where blocks cannot be shared it moves page after page, through the cache.
                Sink::Staged(staged) if blob.is_whole() => {
                    staged.copy_from(&mut Passing::new(file).take(length))?
                }
                // What it borrows is likely to be copied for others too.
                Sink::Staged(staged) => staged.copy_from(&mut file.take(length))?,
                // Into a pipe the kernel moves pages.
                Sink::Stream(out) => io::copy(&mut file.take(length), out)?,
            };
        }
        Ok(copied)
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

    fn sink(&mut self) -> &mut dyn Write {
        match &mut self.sink {
            Sink::Staged(staged) => staged,
            Sink::Stream(file) => file,
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink().flush()
    }
}
