//! The image records of this machine.
//!
//! ```text
//! <root>/
//!   <sha256 of the reference>.json   one record
//!   <sha256 of the manifest digest>.json   the record of an image without a name
//!   lock                             held alone by whoever writes
//! ```
//!
//! Invariant: a record is written after all that it names, and durably, so that its existence is a promise. Readers
//! take no lock: each record is replaced as a whole.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use carrack_oci::{Digest, Reference, parse_strict};
use carrack_sys::IoContext;
use carrack_sys::atomic::{self, Durability};
use carrack_sys::lock::Lock;

use crate::record::file_name;
use crate::{Error, ImageRecord, Result, ShortNames};

/// Far above any record that carrack writes; annotations of a descriptor are the only long part.
const MAX_RECORD_BYTES: u64 = 8 << 20;

/// The image records below one folder; safe to use from several processes.
#[derive(Clone, Debug)]
pub struct ImageStore {
    root: PathBuf,
    pub(crate) short_names: ShortNames,
}

impl ImageStore {
    /// Opens the store at `root`, which is made with mode 0700 where it is missing.
    pub fn open(root: &Path) -> Result<Self> {
        atomic::create_private_dir(root)?;
        Ok(Self { root: root.to_owned(), short_names: ShortNames::default() })
    }

    /// The same store, where a name that no image has may stand for others.
    pub fn with_short_names(self, short_names: ShortNames) -> Self {
        Self { short_names, ..self }
    }

    /// Writes a record, durable when this returns; all that it names must be complete and durable before.
    ///
    /// An image that loses its only name by this stays as an image without a name; one that gains a name is no
    /// longer listed without one.
    pub fn put(&self, record: &ImageRecord) -> Result<()> {
        let _lock = self.lock()?;
        let path = self.root.join(record.file_name());
        if let Some(displaced) = read_record(&path)?
            && displaced.id() != record.id()
        {
            self.keep_unnamed(displaced)?;
        }
        self.write(&path, record)?;
        if record.reference.is_some() {
            let unnamed = ImageRecord { reference: None, ..record.clone() };
            self.remove(&unnamed)?;
        }
        Ok(())
    }

    /// The record of a name; `name` and `name:latest` are the same.
    pub fn get(&self, reference: &Reference) -> Result<Option<ImageRecord>> {
        read_record(&self.root.join(file_name(&reference.clone().or_latest())))
    }

    /// Deletes a record, but not one that another process has put in its place since; tells whether it was there.
    pub fn delete(&self, record: &ImageRecord) -> Result<bool> {
        let _lock = self.lock()?;
        match read_record(&self.root.join(record.file_name()))? {
            Some(current) if current.manifest == record.manifest => self.remove(record).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Every record, by name; those without one come last.
    pub fn list(&self) -> Result<Vec<ImageRecord>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.root).during("list", &self.root)? {
            let path = entry.during("list", &self.root)?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if !hidden && path.extension().is_some_and(|extension| extension == "json") {
                records.extend(read_record(&path)?);
            }
        }
        let unnamed_last = |record: &ImageRecord| (record.reference.is_none(), record.reference.clone());
        records.sort_by_cached_key(|record| (unnamed_last(record), record.manifest.digest.clone()));
        Ok(records)
    }

    /// Every record of one image ID.
    pub fn names_of(&self, id: &Digest) -> Result<Vec<ImageRecord>> {
        Ok(self.list()?.into_iter().filter(|record| record.id() == id).collect())
    }

    fn keep_unnamed(&self, displaced: ImageRecord) -> Result<()> {
        let has_another_name = self.names_of(displaced.id())?.len() > 1;
        if displaced.reference.is_none() || has_another_name {
            return Ok(());
        }
        let unnamed = ImageRecord { reference: None, ..displaced };
        self.write(&self.root.join(unnamed.file_name()), &unnamed)
    }

    fn write(&self, path: &Path, record: &ImageRecord) -> Result<()> {
        let bytes = serde_json::to_vec(record).expect("a record has string keys only");
        Ok(atomic::write(path, &bytes, 0o600, Durability::Durable)?)
    }

    fn remove(&self, record: &ImageRecord) -> Result<()> {
        let path = self.root.join(record.file_name());
        atomic::remove_file(&path)?;
        Ok(atomic::sync_parent(&path)?)
    }

    fn lock(&self) -> Result<Lock> {
        Ok(Lock::exclusive(&self.root.join("lock"))?)
    }
}

/// Reads a record; `None` when there is none, an error when the file holds anything but a record of its own name.
fn read_record(path: &Path) -> Result<Option<ImageRecord>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.during("open", path)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_RECORD_BYTES + 1).read_to_end(&mut bytes).during("read", path)?;
    let refuse = |reason: String| Error::Record { path: path.to_owned(), reason };
    if bytes.len() as u64 > MAX_RECORD_BYTES {
        return Err(refuse(format!("expected at most {MAX_RECORD_BYTES} bytes")));
    }
    let record: ImageRecord = parse_strict(&bytes).map_err(|error| refuse(error.to_string()))?;
    let expected = record.file_name();
    if path.file_name().is_none_or(|name| name != expected.as_str()) {
        return Err(refuse(format!("expected it to be named {expected}, as what it records")));
    }
    Ok(Some(record))
}
