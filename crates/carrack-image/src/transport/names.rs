//! The names in an archive, and what they lead to.
//!
//! Invariant: names are resolved within the archive only, and a name means one file: an archive that holds two files
//! of one name is refused, because readers disagree on which one counts.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use carrack_layer::tar::EntryKind;

use crate::{Error, Result};

const KIND: &str = "archive";
const MAX_ENTRIES: usize = 1 << 16;
/// Old `docker save` puts layers that are equal as links to one of them; a link to a link is rare.
const MAX_LINKS: usize = 8;

/// The names in the archive at `path`, each with `D`, where its data are.
pub(super) struct Names<D> {
    path: PathBuf,
    places: HashMap<String, Place<D>>,
    count: usize,
}

enum Place<D> {
    Data(D),
    Link { target: String },
}

impl<D> Names<D> {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), places: HashMap::new(), count: 0 }
    }

    /// The archive, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds an entry; `data` is what a regular file has.
    pub fn add(&mut self, path: &Path, kind: EntryKind, data: D) -> Result<()> {
        self.count += 1;
        if self.count > MAX_ENTRIES {
            return Err(self.refuse(format!("expected at most {MAX_ENTRIES} entries")));
        }
        // Names that lead out of the archive or are not UTF-8 are none that a manifest could ask for.
        let Some(name) = normal(path) else { return Ok(()) };
        let target = match kind {
            EntryKind::File => None,
            EntryKind::Hardlink { target } => Some(target),
            EntryKind::Symlink { target } => Some(path.with_file_name("").join(target)),
            _ => return Ok(()),
        };
        let place = match target.as_deref().map(normal) {
            None => Place::Data(data),
            Some(Some(target)) => Place::Link { target },
            Some(None) => return Ok(()),
        };
        match self.places.insert(name, place) {
            None => Ok(()),
            Some(_) => Err(self.refuse(format!("it has two files named {}", path.display()))),
        }
    }

    /// Whether there is a file or link of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Where the data of a file are, links followed.
    pub fn find(&self, name: &str) -> Result<Option<&D>> {
        let mut name = normal(Path::new(name));
        for _ in 0..=MAX_LINKS {
            match name.as_ref().and_then(|name| self.places.get(name)) {
                None => return Ok(None),
                Some(Place::Link { target }) => name = Some(target.clone()),
                Some(Place::Data(data)) => return Ok(Some(data)),
            }
        }
        Err(self.refuse(format!("more than {MAX_LINKS} links lead to one file")))
    }

    pub fn refuse(&self, reason: String) -> Error {
        Error::Format { kind: KIND, path: self.path.clone(), reason }
    }
}

/// `./a/../b` becomes `b`; `None` when it leads out, or names nothing.
fn normal(path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => drop(parts.pop()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    if parts.is_empty() { None } else { Some(parts.join("/")) }
}
