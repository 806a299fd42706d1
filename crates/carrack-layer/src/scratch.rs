//! A file for what does not fit into memory.
//!
//! Invariant: it has no name, so that it is gone with its descriptor whatever happens.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

/// An empty file below `folder`.
pub(crate) fn anonymous_file(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(openat(CWD, folder, flags, Mode::RUSR | Mode::WUSR)?.into())
}
