//! What goes wrong with snapshots.

use carrack_oci::{ChainId, DiffId};

use crate::{KeyError, SnapshotKey};

/// The result of an operation on snapshots.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on snapshots failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no committed snapshot of this id.
    #[error("cannot find the snapshot {id}")]
    NotFound {
        /// The id that was asked for.
        id: ChainId,
    },
    /// There is no active snapshot or view of this key.
    #[error("cannot find the active snapshot {key}")]
    NotActive {
        /// The key that was asked for.
        key: SnapshotKey,
    },
    /// The key is taken.
    #[error("cannot prepare the snapshot {key}: it exists already")]
    Exists {
        /// The key that was given.
        key: SnapshotKey,
    },
    /// A view has no changes to write or commit.
    #[error("cannot take the changes of the snapshot {key}: it is a view")]
    ReadOnly {
        /// The key that was given.
        key: SnapshotKey,
    },
    /// Another snapshot stands on this one.
    #[error("cannot remove the snapshot {id}: {user} stands on it")]
    InUse {
        /// The snapshot that was to be removed.
        id: ChainId,
        /// One that stands on it.
        user: String,
    },
    /// Layers that must be merged to be seen right cannot be.
    #[error(
        "cannot show the snapshot {id}: its layer {layer} has hardlinks to files of other layers, and all its layers \
         together have more entries than one index can have"
    )]
    Unmergeable {
        /// The snapshot.
        id: ChainId,
        /// The layer with the links.
        layer: DiffId,
    },
    /// The record of a snapshot cannot be read.
    #[error("cannot read the record of the snapshot {name}: {source}")]
    Record {
        /// The snapshot.
        name: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A text is not a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A layer could not be unpacked.
    #[error(transparent)]
    Layer(#[from] carrack_layer::Error),
    /// The content store, which has the tars of layers.
    #[error(transparent)]
    Content(#[from] carrack_content::Error),
    /// The file system failed.
    #[error(transparent)]
    System(#[from] carrack_sys::Error),
}
