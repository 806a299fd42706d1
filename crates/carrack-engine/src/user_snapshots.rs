//! Snapshots that users make by hand. Nothing else names them, so they name themselves: active ones by a prefix of their
//! key, committed ones by a file.
//!
//! ```text
//! <root>/snapshots/kept/<algorithm>-<hex>   an empty file: a committed snapshot that a user has made
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use carrack_oci::ChainId;
use carrack_snapshot::SnapshotKey;
use carrack_sys::IoContext;

use crate::{Engine, Result};

const PREFIX: &str = "user-";

/// Whether a user has made the active snapshot or view of this key.
pub(crate) fn is_users(key: &SnapshotKey) -> bool {
    key.as_str().starts_with(PREFIX)
}

impl Engine {
    fn kept_folder(&self) -> PathBuf {
        self.snapshots_folder().join("kept")
    }

    /// The committed snapshots that users have made.
    pub(crate) fn kept_snapshots(&self) -> Result<BTreeSet<ChainId>> {
        let folder = self.kept_folder();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.during("list", &folder)?,
        };
        let mut kept = BTreeSet::new();
        for entry in entries {
            let name = entry.during("list", &folder)?.file_name();
            let digest = name.to_str().and_then(|name| name.replacen('-', ":", 1).parse().ok());
            kept.extend(digest.map(ChainId));
        }
        Ok(kept)
    }
}
