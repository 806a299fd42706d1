//! The values of the image formats: digests, references, platforms, and the OCI and Docker documents.
//!
//! Pure: no input or output. Every document is read from bytes with a size bound, keeps to the specification it
//! names, and refuses what is ambiguous; digests are always computed over the exact bytes, never over a
//! re-serialised value.

mod config;
mod descriptor;
mod digest;
mod document;
mod json;
mod manifest;
pub mod media_type;
mod platform;
mod reference;

pub use config::{ContainerConfig, Empty, Healthcheck, History, ImageConfig, RootFs};
pub use descriptor::Descriptor;
pub use digest::{ChainId, DiffId, Digest, DigestError, Hasher, VerifyingReader};
pub use document::{Document, DocumentError, MAX_DOCUMENT_BYTES};
pub use json::parse_strict;
pub use manifest::{Index, Manifest};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError, Repository};
