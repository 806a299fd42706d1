//! Manifest lists that are made here: indexes whose entries are added one by one before they are pushed.
//!
//! ```text
//! <root>/
//!   <sha256 of the reference>.json   one list
//!   lock                             held alone by whoever writes
//! ```
//!
//! Invariant: the manifest of every entry is in the content store before the list names it. A list is replaced as a
//! whole, and what is pushed or shown of it are always the bytes of [`ManifestList::document`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use carrack_oci::{Descriptor, Digest, Index, Reference, parse_strict};
use carrack_sys::IoContext;
use carrack_sys::atomic::{self, Durability};
use carrack_sys::lock::Lock;
use serde::{Deserialize, Serialize};

use crate::record::file_name;
use crate::{Error, Result};

/// Where the content of an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListSource {
    /// The image is here, whole.
    Local,
    /// Only its manifest is here; a push gets the rest from this place.
    Registry(Reference),
}

/// A list under its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestList {
    /// Its name, with a tag.
    pub reference: Reference,
    /// The list itself.
    pub index: Index,
    /// Where the content of each entry is, by the entry's digest.
    pub sources: BTreeMap<Digest, ListSource>,
}

impl ManifestList {
    /// An OCI index without entries.
    pub fn new(reference: Reference) -> Self {
        Self { reference: reference.or_latest(), index: Index::oci(Vec::new()), sources: BTreeMap::new() }
    }

    /// Puts an entry into the list, in the place of one with the same digest.
    pub fn put(&mut self, entry: Descriptor, source: ListSource) {
        self.sources.insert(entry.digest.clone(), source);
        match self.index.manifests.iter_mut().find(|known| known.digest == entry.digest) {
            Some(known) => *known = entry,
            None => self.index.manifests.push(entry),
        }
    }

    /// Takes an entry from the list; tells whether it was there.
    pub fn take(&mut self, digest: &Digest) -> bool {
        self.index.manifests.retain(|entry| entry.digest != *digest);
        self.sources.remove(digest).is_some()
    }

    /// The bytes of the list, as they are shown and pushed.
    pub fn document(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(&self.index).expect("an index has string keys only")
    }

    /// What a registry is told of the list.
    pub fn descriptor(&self) -> Descriptor {
        let media_type = self.index.media_type.as_deref().unwrap_or(carrack_oci::media_type::OCI_INDEX);
        Descriptor::of(media_type, &self.document())
    }
}

/// The lists below one folder; safe to use from several processes.
#[derive(Clone, Debug)]
pub struct ListStore {
    root: PathBuf,
}

impl ListStore {
    /// The store at `root`, which is made at the first write.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The list of a name; `name` and `name:latest` are the same.
    pub fn get(&self, reference: &Reference) -> Result<Option<ManifestList>> {
        self.read(&self.path(reference))
    }

    /// Every list, by name.
    pub fn list(&self) -> Result<Vec<ManifestList>> {
        let mut lists = Vec::new();
        for path in self.files()? {
            lists.extend(self.read(&path)?);
        }
        lists.sort_by(|one, two| one.reference.cmp(&two.reference));
        Ok(lists)
    }

    /// The files of lists that cannot be read, and why.
    pub fn damaged(&self) -> Result<Vec<(PathBuf, Error)>> {
        let read = |path: PathBuf| self.read(&path).err().map(|error| (path, error));
        Ok(self.files()?.into_iter().filter_map(read).collect())
    }

    /// Deletes the file of a list that cannot be read.
    pub fn remove_damaged(&self, path: &Path) -> Result<()> {
        let _lock = self.lock()?;
        atomic::remove_file(path)?;
        Ok(atomic::sync_parent(path)?)
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(files),
            entries => entries.during("list", &self.root)?,
        };
        for entry in entries {
            let path = entry.during("list", &self.root)?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if !hidden && path.extension().is_some_and(|extension| extension == "json") {
                files.push(path);
            }
        }
        Ok(files)
    }

    /// Changes the list of a name alone among all who do: `change` gets what is there and says what is to be there.
    pub fn change<E: From<Error>>(
        &self,
        reference: &Reference,
        change: impl FnOnce(Option<ManifestList>) -> Result<ManifestList, E>,
    ) -> Result<ManifestList, E> {
        let path = self.path(reference);
        let _lock = self.lock()?;
        let list = change(self.read(&path)?)?;
        let bytes = serde_json::to_vec(&list).expect("a list has string keys only");
        atomic::write(&path, &bytes, 0o600, Durability::Durable).map_err(Error::from)?;
        Ok(list)
    }

    /// Deletes a list; tells whether it was there.
    pub fn delete(&self, reference: &Reference) -> Result<bool> {
        let path = self.path(reference);
        let _lock = self.lock()?;
        let is_there = path.exists();
        atomic::remove_file(&path)?;
        atomic::sync_parent(&path)?;
        Ok(is_there)
    }

    fn path(&self, reference: &Reference) -> PathBuf {
        self.root.join(file_name(&reference.clone().or_latest()))
    }

    fn lock(&self) -> Result<Lock> {
        atomic::create_private_dir(&self.root)?;
        Ok(Lock::exclusive(&self.root.join("lock"))?)
    }

    fn read(&self, path: &Path) -> Result<Option<ManifestList>> {
        let Some(bytes) = atomic::read(path)? else { return Ok(None) };
        let refuse = |reason: String| Error::Record { path: path.to_owned(), reason };
        let list: ManifestList = parse_strict(&bytes).map_err(|error| refuse(error.to_string()))?;
        let expected = file_name(&list.reference);
        match path.file_name().is_some_and(|name| name == expected.as_str()) {
            true => Ok(Some(list)),
            false => Err(refuse(format!("expected it to be named {expected}, as what it records"))),
        }
    }
}
