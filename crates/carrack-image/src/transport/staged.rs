//! A file that gets its name when it is complete.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use carrack_content::BlockWriter;
use carrack_sys::{IoContext, atomic};

use crate::Result;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A hidden name in `folder` that no other process or thread uses.
pub(super) fn temporary_name(folder: &Path) -> PathBuf {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    folder.join(format!(".carrack-{}-{number}.tmp", std::process::id()))
}

/// The folder that holds `path`.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A temporary file; dropped before [`StagedFile::name`], it is removed.
pub(super) struct StagedFile {
    path: PathBuf,
    blocks: BlockWriter,
}

impl StagedFile {
    /// Makes a temporary file in `folder`, with the mode that the user's umask leaves of 0666: it is the user's own
    /// export, not part of a store.
    pub fn create(folder: &Path) -> Result<Self> {
        let path = temporary_name(folder);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.during("create a file in", folder)?;
        Ok(Self { path, blocks: BlockWriter::new(file, 0) })
    }

    /// Writes `source` to its end; returns how many bytes it had.
    pub fn copy_from(&mut self, source: &mut dyn Read) -> io::Result<u64> {
        self.blocks.copy_from(source)
    }

    /// Syncs the file and names it; the name itself is durable when its folder is synced.
    pub fn name(mut self, target: &Path) -> Result<()> {
        self.blocks.finish().during("write", &self.path)?.sync_data().during("sync", &self.path)?;
        Ok(fs::rename(&self.path, target).during("rename to", target)?)
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.blocks.write(bytes)
    }

    /// Nothing counts before the file has its name.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for StagedFile {
    /// After [`StagedFile::name`] there is no file of the temporary name.
    fn drop(&mut self) {
        let _ = atomic::remove_file(&self.path);
    }
}
