//! Snapshots: the states of a file system that layers build up, and the writable ones on top of them.
//!
//! # Terms
//! A *committed* snapshot is named by its [chain id](carrack_oci::ChainId), never changes, and is complete and synced
//! from the moment it has its name. An *active* snapshot is writable and named by a [`SnapshotKey`] that the caller
//! chooses; a *view* is read-only and named the same way. Each stands on a committed parent, or on nothing.
//!
//! # Lifecycle
//! `prepare` makes an active snapshot, `commit` turns it into a committed one, `discard` removes it. The layers of an
//! image take a shorter way: `unpack` each, in parallel, then `stack` them in order ([`LayerUnpacker`]).
//!
//! # Mounts
//! A snapshot is seen through a [`Mount`], which is opened as a *detached* mount: it is in no mount namespace, and goes
//! away with the last descriptor of it.

mod check;
mod error;
mod key;
mod mount;
mod overlay;
mod snapshotter;
pub mod suite;

pub use carrack_sys::tree::Usage;
pub use check::Problem;
pub use error::{Error, Result};
pub use key::{KeyError, SnapshotKey};
pub use mount::Mount;
pub use overlay::OverlaySnapshotter;
pub use snapshotter::{LayerUnpacker, SnapshotInfo, SnapshotName, Snapshots, Snapshotter, Unpacked};
