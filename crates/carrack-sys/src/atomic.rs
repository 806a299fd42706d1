//! Files that are either whole or absent: temporary file, sync, rename, sync of the folder.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{IoContext, Result};

/// Whether a write must survive a loss of power, or only other processes must never see half of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Synced before it is named: what a user was told is done.
    Durable,
    /// Not synced: run state, which a reboot may take.
    Volatile,
}

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A name beside `path` that no other process or thread uses: `.NAME.PID.N.tmp`.
fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{name}.{}.{number}.tmp", std::process::id()))
}

/// Replaces the file at `path` by one with `bytes` and `mode`; after a crash it has the old or the new content.
pub fn write(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<()> {
    let temporary = temporary_beside(path);
    let written = write_and_rename(&temporary, path, bytes, (mode, durability));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_and_rename(temporary: &Path, path: &Path, bytes: &[u8], how: (u32, Durability)) -> Result<()> {
    let (mode, durability) = how;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(temporary)
        .during("create", temporary)?;
    file.write_all(bytes).during("write", temporary)?;
    if durability == Durability::Durable {
        file.sync_data().during("sync", temporary)?;
    }
    fs::rename(temporary, path).during("rename to", path)?;
    if durability == Durability::Durable { sync_parent(path) } else { Ok(()) }
}

/// Gives a complete file of the same file system another name, in place of what has it: synced first, durable when this
/// returns.
pub fn rename_durably(file: &Path, path: &Path) -> Result<()> {
    File::open(file).and_then(|file| file.sync_data()).during("sync", file)?;
    fs::rename(file, path).during("rename to", path)?;
    sync_parent(path)
}

/// Makes the names in the folder of `path` durable.
pub fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|folder| folder.sync_all()).during("sync", parent)
}

/// Makes a folder and its missing parents, each with mode 0700.
pub fn create_private_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).during("create the folder", path)
}

/// Removes a file; one that does not exist is removed already.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.during("remove", path),
    }
}

/// Reads a whole file; `None` when it does not exist.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).during("read", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        write(&path, b"one", 0o600, Durability::Durable).unwrap();
        write(&path, b"two", 0o600, Durability::Volatile).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_names_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        fs::create_dir(&path).unwrap();
        let error = write(&path, b"one", 0o600, Durability::Volatile).unwrap_err();
        assert!(error.to_string().contains("rename to"), "{error}");
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary file is gone");
    }
}
