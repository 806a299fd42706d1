//! What a snapshot stands on, in a file beside its files.
//!
//! Invariant: one read tells all parts of a mount, however many layers there are.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use carrack_content::Lender;
use carrack_oci::{ChainId, DiffId, Digest};
use carrack_sys::IoContext;
use carrack_sys::atomic::{self, Durability};
use carrack_sys::tree::Usage;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

const NAME: &str = "record.json";

/// The record of one snapshot, committed or not.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// All snapshots below, the parent first.
    pub ancestors: Vec<ChainId>,
    /// How many of these, from the parent on, can be seen: an opaque layer hides all below it.
    pub visible_count: usize,
    /// A view is not written to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_view: bool,
    /// What a committed snapshot holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<RecordedUsage>,
    /// Where layers are not extracted: the layer of this snapshot, if it is committed, then those of its ancestors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<DiffId>,
    /// Where layers are not extracted: what the layers of this snapshot and its ancestors borrow from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lenders: Vec<Lender>,
    /// Where layers borrow: a digest of all that they do, when this was written. They may do otherwise when they were lost
    /// and came again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<Digest>,
    /// Where layers are not extracted: how the root of what is shown looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootFolder>,
}

/// [`Usage`] as a record has it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct RecordedUsage {
    size_bytes: u64,
    inodes: u64,
}

/// How the root folder of a snapshot looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootFolder {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<(String, Vec<u8>)>,
}

impl From<Usage> for RecordedUsage {
    fn from(usage: Usage) -> Self {
        Self { size_bytes: usage.size_bytes, inodes: usage.inodes }
    }
}

impl From<RecordedUsage> for Usage {
    fn from(usage: RecordedUsage) -> Self {
        Self { size_bytes: usage.size_bytes, inodes: usage.inodes }
    }
}

impl Record {
    /// Reads the record of the snapshot in `folder`; `None` when there is no such snapshot. An empty record is what a
    /// loss of power leaves of one that was not synced yet.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let bytes = atomic::read(&folder.join(NAME))?.filter(|bytes| !bytes.is_empty());
        let Some(bytes) = bytes else { return Ok(None) };
        let name = || folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Record { name: name(), source })
    }

    /// When the record was written, by the clock of the file system: all beside it was complete then.
    pub fn written_at(folder: &Path) -> Result<(i64, i64)> {
        let path = folder.join(NAME);
        let metadata = fs::metadata(&path).during("examine", &path)?;
        Ok((metadata.mtime(), metadata.mtime_nsec()))
    }

    /// Writes the record into a folder that nobody knows yet.
    pub fn write_new(&self, folder: &Path) -> Result<()> {
        let path = folder.join(NAME);
        Ok(fs::write(&path, self.to_json()?).during("write", &path)?)
    }

    /// Writes the record; it becomes durable with the files beside it, or at once.
    pub fn write(&self, folder: &Path, durability: Durability) -> Result<()> {
        Ok(atomic::write(&folder.join(NAME), &self.to_json()?, 0o600, durability)?)
    }

    fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|source| Error::Record { name: NAME.to_owned(), source })
    }

    /// The record of a new snapshot on the one that `self` is of.
    pub fn child(mut self, id: &ChainId) -> Self {
        self.ancestors.insert(0, id.clone());
        Self { visible_count: self.visible_count + 1, is_view: false, usage: None, ..self }
    }

    /// What the snapshot stands on.
    pub fn parent(&self) -> Option<&ChainId> {
        self.ancestors.first()
    }

    /// The snapshots below that can be seen, topmost first.
    pub fn visible(&self) -> &[ChainId] {
        &self.ancestors[..self.visible_count.min(self.ancestors.len())]
    }
}
