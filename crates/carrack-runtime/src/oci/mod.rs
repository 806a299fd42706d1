//! Containers as the command line of the OCI runtime specification knows them: made of a bundle, found by an id in a
//! folder, handled by one process after the other.
//!
//! ```text
//! FOLDER (/run/carrack/runtime)/      0700
//!   ID/
//!     lock          whoever changes the container
//!     record.json   what is known of it: pid, bundle, cgroup ...
//!     config.json   the spec that it was created from
//!     start         socket on which it waits for its start; gone when it was started
//! ```
//!
//! Invariant: a pid is believed only together with its start time, and all that a container left is found by its record.

mod bundle;
mod create;
mod delete;
mod exec;
mod features;
mod kill;
mod limits;
mod record;
mod start;
mod template;
mod usage;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::lock::Lock;

pub use bundle::Bundle;
pub use create::{Console, Created, Creation};
pub use exec::{Command, Executed};
pub use features::features;
pub use limits::Changes;
pub use record::{Details, Record, State, Status};
pub use template::template;

use crate::{Error, Result};

/// The version of the specification that states are of.
pub const SPEC_VERSION: &str = "1.2.0";

/// The containers of one folder.
#[derive(Clone, Debug)]
pub struct Runtime {
    folder: PathBuf,
}

/// One container that exists.
#[derive(Debug)]
pub struct Container {
    folder: PathBuf,
    record: Record,
}

impl Runtime {
    /// The containers below `folder`, which need not exist.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Finds a container.
    pub fn find(&self, id: &str) -> Result<Container> {
        let folder = self.folder_of(id)?;
        match Record::read(&folder)? {
            Some(record) => Ok(Container { folder, record }),
            None => Err(Error::NoContainer { id: id.to_owned() }),
        }
    }

    /// All containers, by id.
    pub fn list(&self) -> Result<Vec<Container>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.during("read the folder", &self.folder)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let folder = entry.during("read the folder", &self.folder)?.path();
            // One that is deleted meanwhile is none.
            if let Ok(Some(record)) = Record::read(&folder) {
                found.push(Container { folder, record });
            }
        }
        found.sort_by(|one, other| one.record.id.cmp(&other.record.id));
        Ok(found)
    }

    fn folder_of(&self, id: &str) -> Result<PathBuf> {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "_+-.".contains(letter);
        let plain = !id.is_empty() && id.len() <= 1024 && !id.starts_with('.') && id.chars().all(allowed);
        if plain { Ok(self.folder.join(id)) } else { Err(Error::InvalidId { id: id.to_owned() }) }
    }

    /// Claims `id` by making its folder.
    fn claim(&self, id: &str) -> Result<PathBuf> {
        let folder = self.folder_of(id)?;
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).recursive(true).create(&self.folder).during("create the folder", &self.folder)?;
        match builder.recursive(false).create(&folder) {
            Ok(()) => Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::Exists { id: id.to_owned() })
            }
            Err(error) => Err(error).during("create the folder", &folder)?,
        }
    }
}

impl Container {
    /// What the specification tells of a container.
    pub fn state(&self) -> Result<State> {
        Ok(self.record.state(self.status()?))
    }

    /// What it does now.
    pub fn status(&self) -> Result<Status> {
        self.record.status(&self.folder)
    }

    /// What is kept of it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Waits until no other process changes the container, and reads its record anew.
    fn lock(&mut self) -> Result<Lock> {
        let gone = |id: &str| Error::NoContainer { id: id.to_owned() };
        let lock = match lock(&self.folder) {
            Err(Error::Sys(error)) if error.is_not_found() => return Err(gone(&self.record.id)),
            lock => lock?,
        };
        self.record = Record::read(&self.folder)?.ok_or_else(|| gone(&self.record.id))?;
        Ok(lock)
    }

    fn wrong_status(&self, verb: &'static str, reason: impl Into<String>) -> Error {
        Error::WrongStatus { verb, id: self.record.id.clone(), reason: reason.into() }
    }
}

fn lock(folder: &Path) -> Result<Lock> {
    Ok(Lock::exclusive(&folder.join("lock"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_cannot_leave_the_folder() {
        let runtime = Runtime::new("/nowhere".into());
        for id in ["", ".", "..", "a/b", "../a", "a b", ".a", "a\n"] {
            assert!(matches!(runtime.find(id), Err(Error::InvalidId { .. })), "{id:?}");
        }
        assert!(matches!(runtime.find("a_b+c-d.e"), Err(Error::NoContainer { .. })));
    }

    #[test]
    fn an_id_is_claimed_once() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::new(folder.path().join("below"));
        runtime.claim("one").unwrap();
        assert!(matches!(runtime.claim("one"), Err(Error::Exists { .. })));
        assert!(runtime.list().unwrap().is_empty());
    }
}
