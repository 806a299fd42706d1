//! What each name meant before: a bounded list for each reference, the oldest first.
//!
//! Invariant: a log is replaced as a whole and durably, by whoever holds the lock of the image store; a reader sees
//! the old list or the new one. A log names images, it does not keep them: each stands in the list of images, with
//! another name or without one, until it is removed there.

use std::path::PathBuf;

use carrack_oci::{Reference, parse_strict};
use carrack_sys::atomic::{self, Durability};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::record::file_name;
use crate::{Error, ImageRecord, Result};

/// How many earlier meanings are kept of a name, unless the settings say otherwise.
const DEFAULT_ROOM: usize = 10;

/// What a name meant for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The record as it was; `tagged` is the begin of the time.
    pub record: ImageRecord,
    /// The end of the time; `None` for what the name means now.
    pub replaced: Option<Timestamp>,
}

/// The logs of all names, in a folder of their own.
#[derive(Clone, Debug)]
pub(crate) struct NameLogs {
    folder: PathBuf,
    room: usize,
}

impl NameLogs {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, room: DEFAULT_ROOM }
    }

    pub(crate) fn with_room(self, room: usize) -> Self {
        Self { room, ..self }
    }

    /// Notes that the name of `displaced` means something else from `now` on.
    pub(crate) fn remember(&self, displaced: &ImageRecord, now: Timestamp) -> Result<()> {
        let Some(reference) = &displaced.reference else { return Ok(()) };
        if self.room == 0 {
            return self.forget(reference);
        }
        let mut entries = self.read(reference)?;
        // A crash may have noted the same already.
        let is_same =
            |entry: &LogEntry| entry.record.id() == displaced.id() && entry.record.tagged == displaced.tagged;
        entries.retain(|entry| !is_same(entry));
        entries.push(LogEntry { record: displaced.clone(), replaced: Some(now) });
        entries.drain(..entries.len().saturating_sub(self.room));
        let bytes = serde_json::to_vec(&entries).expect("a log has string keys only");
        atomic::create_private_dir(&self.folder)?;
        Ok(atomic::write(&self.path(reference), &bytes, 0o600, Durability::Durable)?)
    }

    /// The log of a name, the oldest first.
    pub(crate) fn read(&self, reference: &Reference) -> Result<Vec<LogEntry>> {
        let path = self.path(reference);
        let Some(bytes) = atomic::read(&path)? else { return Ok(Vec::new()) };
        parse_strict(&bytes).map_err(|error| Error::Record { path, reason: error.to_string() })
    }

    /// Deletes the log of a name.
    pub(crate) fn forget(&self, reference: &Reference) -> Result<()> {
        Ok(atomic::remove_file(&self.path(reference))?)
    }

    fn path(&self, reference: &Reference) -> PathBuf {
        self.folder.join(file_name(reference))
    }
}
