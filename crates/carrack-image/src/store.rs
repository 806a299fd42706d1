//! The image records of this machine.
//!
//! ```text
//! <root>/
//!   <sha256 of the reference>.json   one record
//!   <sha256 of the manifest digest>.json   the record of an image without a name
//!   log/<sha256 of the reference>.json     what the name meant before
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
use jiff::Timestamp;

use crate::name_log::NameLogs;
use crate::record::file_name;
use crate::{Error, ImageRecord, LogEntry, Result, ShortNames};

/// Far above any record that carrack writes; annotations of a descriptor are the only long part.
const MAX_RECORD_BYTES: u64 = 8 << 20;
/// Most are read by one call into a buffer of this size.
const USUAL_RECORD_BYTES: usize = 4 << 10;

/// The image records below one folder; safe to use from several processes.
#[derive(Clone, Debug)]
pub struct ImageStore {
    root: PathBuf,
    pub(crate) short_names: ShortNames,
    logs: NameLogs,
}

impl ImageStore {
    /// Opens the store at `root`, which is made with mode 0700 where it is missing.
    pub fn open(root: &Path) -> Result<Self> {
        atomic::create_private_dir(root)?;
        let logs = NameLogs::new(root.join("log"));
        Ok(Self { root: root.to_owned(), short_names: ShortNames::default(), logs })
    }

    /// The same store, where a name that no image has may stand for others.
    pub fn with_short_names(self, short_names: ShortNames) -> Self {
        Self { short_names, ..self }
    }

    /// The same store with room for this many earlier meanings of each name.
    pub fn with_history(self, entries: usize) -> Self {
        Self { logs: self.logs.with_room(entries), ..self }
    }

    /// Writes a record, durable when this returns; all that it names must be complete and durable before.
    ///
    /// An image that loses its only name by this stays as an image without a name, and the name's log says what it
    /// meant; an image that gains a name is no longer listed without one.
    pub fn put(&self, record: &ImageRecord) -> Result<()> {
        let _lock = self.lock()?;
        let path = self.root.join(record.file_name());
        let displaced = read_record(&path)?;
        let now = Timestamp::now();
        let mut tagged = now;
        match displaced {
            Some(same) if same.id() == record.id() => tagged = same.tagged.unwrap_or(now),
            Some(displaced) => {
                // The log comes first: read with a record that was not replaced after all, it has one entry too many,
                // which is known by its time; the other way round it would lack one.
                self.logs.remember(&displaced, now)?;
                self.keep_unnamed(displaced)?;
            }
            None => {}
        }
        self.write(&path, &ImageRecord { tagged: Some(tagged), ..record.clone() })?;
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
            Some(current) if current.manifest == record.manifest => {
                self.remove(record)?;
                if let Some(reference) = &record.reference {
                    self.logs.forget(reference)?;
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// What a name means, and before it what it has meant, the newest first; empty when there is no such name.
    pub fn log(&self, reference: &Reference) -> Result<Vec<LogEntry>> {
        let reference = reference.clone().or_latest();
        let Some(current) = self.get(&reference)? else { return Ok(Vec::new()) };
        let past = self.logs.read(&reference)?;
        let is_past = |entry: &LogEntry| {
            (&entry.record.config_digest, entry.record.tagged) != (current.id(), current.tagged)
        };
        let past: Vec<_> = past.into_iter().rev().filter(is_past).collect();
        Ok([LogEntry { record: current, replaced: None }].into_iter().chain(past).collect())
    }

    /// Whether the log of another name has the image of `record`.
    pub fn is_in_another_log(&self, record: &ImageRecord) -> Result<bool> {
        for other in self.list()? {
            let Some(name) = other.reference.filter(|name| Some(name) != record.reference.as_ref()) else {
                continue;
            };
            if self.logs.read(&name)?.iter().any(|entry| entry.record.id() == record.id()) {
                return Ok(true);
            }
        }
        Ok(false)
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

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn lock(&self) -> Result<Lock> {
        Ok(Lock::exclusive(&self.root.join("lock"))?)
    }
}

/// Reads a record; `None` when there is none, an error when the file holds anything but a record of its own name.
pub(crate) fn read_record(path: &Path) -> Result<Option<ImageRecord>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.during("open", path)?,
    };
    let mut bytes = Vec::with_capacity(USUAL_RECORD_BYTES);
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
