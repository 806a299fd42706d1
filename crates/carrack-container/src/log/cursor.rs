//! A place in a log that is being written to and rotated.
//!
//! Invariant: lines are given once and in order; none is left out unless its file was rotated away before it was read.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::rotated;

/// A place in a log.
pub(crate) struct Cursor {
    path: PathBuf,
    file: BufReader<File>,
    inode: u64,
    line: Vec<u8>,
}

impl Cursor {
    /// The beginning of the oldest file, or of the last `tail` lines of all files; `None` while there is no log.
    pub(crate) fn open(path: &Path, tail: Option<usize>) -> io::Result<Option<Self>> {
        let mut wanted = tail;
        let mut begin = None;
        for age in existing(path) {
            let Some(mut file) = open_if_exists(path, age)? else { continue };
            if let Some(wanted) = &mut wanted {
                *wanted -= seek_to_tail(&mut file, *wanted)?;
            }
            begin = Some(file);
            if wanted == Some(0) {
                break;
            }
        }
        begin.map(|file| Self::at(path, file)).transpose()
    }

    fn at(path: &Path, file: File) -> io::Result<Self> {
        let inode = file.metadata()?.ino();
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::with_capacity(64 * 1024, file),
            inode,
            line: Vec::new(),
        })
    }

    /// The next whole line; `None` when all that is there has been read.
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if self.line.ends_with(b"\n") {
            self.line.clear();
        }
        loop {
            if self.read_line()? {
                return Ok(Some(&self.line));
            }
            let Some(newer) = self.newer_file()? else { return Ok(None) };
            // Nothing is written to a file after its rotation, so this reads all that was written before.
            if self.read_line()? {
                return Ok(Some(&self.line));
            }
            *self = newer;
        }
    }

    /// Continues the line; whether it is whole.
    fn read_line(&mut self) -> io::Result<bool> {
        self.file.read_until(b'\n', &mut self.line)?;
        Ok(self.line.ends_with(b"\n"))
    }

    /// The file that was begun after this one.
    fn newer_file(&self) -> io::Result<Option<Self>> {
        match self.age() {
            Some(0) => Ok(None),
            Some(age) => {
                let newer = open_if_exists(&self.path, age - 1)?;
                // A rotation in between has moved another file to that name; look again next time.
                newer.filter(|_| self.age() == Some(age)).map(|file| Self::at(&self.path, file)).transpose()
            }
            None => Self::open(&self.path, None),
        }
    }

    /// How often this file has been rotated; `None` when it is gone.
    fn age(&self) -> Option<u32> {
        // Rotation moves a file to the next higher age, so a search upwards cannot miss it.
        existing_with(&self.path, |metadata| metadata.ino() == self.inode).into_iter().next()
    }
}

/// The ages of the files that exist, newest first.
fn existing(path: &Path) -> Vec<u32> {
    existing_with(path, |_| true)
}

fn existing_with(path: &Path, matches: impl Fn(&fs::Metadata) -> bool) -> Vec<u32> {
    /// While a log is rotated, one file may be missing.
    const MISSING_IN_ROTATION: u32 = 2;
    let mut ages = Vec::new();
    let mut missing = 0;
    for age in 0.. {
        match fs::metadata(rotated(path, age)) {
            Ok(metadata) if matches(&metadata) => ages.push(age),
            Ok(_) => {}
            Err(_) => missing += 1,
        }
        if missing == MISSING_IN_ROTATION {
            break;
        }
    }
    ages
}

fn open_if_exists(path: &Path, age: u32) -> io::Result<Option<File>> {
    match File::open(rotated(path, age)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Seeks to the beginning of the last `wanted` lines, or of the file if it has fewer; returns how many there are.
fn seek_to_tail(file: &mut File, wanted: usize) -> io::Result<usize> {
    let mut block = [0u8; 16 * 1024];
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut line_ends = 0;
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let block = &mut block[..usize::try_from(end - start).expect("at most a block")];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        for position in (0..block.len()).rev().filter(|position| block[*position] == b'\n') {
            if line_ends == wanted {
                file.seek(SeekFrom::Start(start + position as u64 + 1))?;
                return Ok(wanted);
            }
            line_ends += 1;
        }
        end = start;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(line_ends)
}
