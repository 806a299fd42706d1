//! Files that tell other programs which container was made (`--cidfile`, `--pidfile`).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// A file that this process has made, and takes away again unless something is written to it.
pub struct IdFile {
    path: PathBuf,
    file: Option<File>,
}

impl IdFile {
    /// Makes the file of `--cidfile`; one that exists is refused, however late it came.
    pub fn create_new(path: &Path) -> Result<Self> {
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), file: Some(file) }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let message = format!("the file {} of --cidfile exists already", path.display());
                Err(Failure::message(message))
            }
            Err(error) => Err(failed(path, &error)),
        }
    }

    /// Writes the ID; the file stays.
    pub fn write(mut self, id: &str) -> Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.write_all(id.as_bytes()).map_err(|error| failed(&self.path, &error))
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes a number into the file, which may exist.
pub fn write_pid(path: &Path, pid: i32) -> Result<()> {
    std::fs::write(path, pid.to_string()).map_err(|error| failed(path, &error))
}

/// The IDs that files of `--cidfile` name.
pub fn read_ids(files: &[PathBuf]) -> Result<Vec<String>> {
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::message(format!("cannot read {}: {error}", file.display())))?;
        Ok(text.lines().next().unwrap_or_default().trim().to_owned())
    };
    files.iter().map(read).collect()
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::message(format!("cannot write {}: {error}", path.display()))
}
