//! What is wrong in a store of snapshots: found by [`Snapshots::check`](crate::Snapshots::check), taken away one by one.

use std::path::PathBuf;

use crate::SnapshotName;

/// One thing that is wrong in a store of snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which snapshot is damaged; `None` when the path belongs to none.
    pub snapshot: Option<SnapshotName>,
    /// What [`Snapshots::remove_damaged`](crate::Snapshots::remove_damaged) takes away.
    pub path: PathBuf,
    /// What was expected and what is there.
    pub reason: String,
}
