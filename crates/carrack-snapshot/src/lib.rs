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

//!
//! # Drivers
//! Three kinds of stores fulfil one contract, which [`suite`] checks; [`Driver`] chooses one of them.

mod check;
mod driver;
mod erofs;
mod error;
mod files;
mod folders;
mod image_mount;
mod key;
mod links;
mod mount;
mod overlay;
mod plain;
mod record;
mod snapshotter;
pub mod suite;
mod vfs;

pub use carrack_sys::tree::Usage;
pub use check::Problem;
pub use driver::{Choice, Driver, DriverError};
pub use erofs::ErofsSnapshotter;
pub use error::{Error, Result};
pub use image_mount::{Holds, ImageMount};
pub use key::{KeyError, SnapshotKey};
pub use mount::{Lower, Mount, Opening};
pub use overlay::OverlaySnapshotter;
pub use plain::PlainTree;
pub use snapshotter::{
    Collected, Kept, LayerUnpacker, SnapshotInfo, SnapshotName, Snapshots, Snapshotter, Unpacked,
};
pub use vfs::VfsSnapshotter;
