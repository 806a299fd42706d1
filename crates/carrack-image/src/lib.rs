//! Images as a whole: records of what references mean here, manifests with their configs, and the places images are
//! copied from and to besides registries.

mod error;
mod find;
mod image;
mod list_store;
mod name_log;
mod origins;
mod reach;
mod record;
mod scan;
mod store;
pub mod transport;

pub use error::{Error, Result};
pub use find::{Found, MatchedBy, ShortNames, past_name};
pub use image::{Image, Layer};
pub use list_store::{ListSource, ListStore, ManifestList};
pub use name_log::LogEntry;
pub use origins::{LayerOrigin, LayerOrigins};
pub use reach::reachable_blobs;
pub use record::ImageRecord;
pub use scan::Scan;
pub use store::ImageStore;
