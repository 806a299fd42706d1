//! What can go wrong with images, their records and their transports.

use std::path::PathBuf;

use carrack_oci::{Digest, DocumentError};

/// The result of an operation on images.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] carrack_sys::Error),
    /// The content store failed, or lacks a blob.
    #[error(transparent)]
    Content(#[from] carrack_content::Error),
    /// A manifest, index or config is not what it should be.
    #[error("cannot read {object}: {source}")]
    Document {
        /// Which document, usually with its digest.
        object: String,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// No image has this name or ID.
    #[error("no such image: {text}")]
    NotFound {
        /// What the user named.
        text: String,
    },
    /// It cannot be known what a name without a registry stands for.
    #[error("cannot look up the short name {text}: {reason}")]
    ShortName {
        /// What the user named.
        text: String,
        /// What is wrong with the configuration.
        reason: String,
    },
    /// More than one image has an ID that begins like this.
    #[error("ambiguous image ID {text:?}: expected the beginning of one ID, got {}", candidates.join(", "))]
    Ambiguous {
        /// What the user named.
        text: String,
        /// The short IDs that match.
        candidates: Vec<String>,
    },
    /// `NAME@{N}` of what a name meant before, which is no longer known or no longer here.
    #[error("no image {text}: {reason}")]
    Past {
        /// What the user named.
        text: String,
        /// What there is instead.
        reason: String,
    },
    /// A record file does not hold a record of its name.
    #[error("cannot read the image record {}: {reason}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A text is not a location.
    #[error("invalid location {text:?}: {reason}")]
    Location {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layout or archive is not what its format says, or cannot be written over.
    #[error("cannot use the {kind} {}: {reason}", path.display())]
    Format {
        /// The format, as in "OCI layout".
        kind: &'static str,
        /// The folder or archive.
        path: PathBuf,
        /// What was expected and what is there.
        reason: String,
    },
    /// A layout or archive has no image, or several, where one is asked for.
    #[error("cannot choose an image in {}: expected {expected}, got {}", path.display(), list(available))]
    Choice {
        /// The folder or archive.
        path: PathBuf,
        /// What the location asks for.
        expected: String,
        /// The names on offer.
        available: Vec<String>,
    },
    /// A blob is absent from a layout or archive.
    #[error("cannot find the blob {digest} in {}", path.display())]
    BlobNotFound {
        /// The blob.
        digest: Digest,
        /// The folder or archive.
        path: PathBuf,
    },
    /// A blob is not the one its descriptor promises.
    #[error(
        "cannot accept the blob {digest}: expected {digest} of {expected_bytes} bytes, got {got} of {got_bytes} bytes"
    )]
    Mismatch {
        /// The digest that the descriptor promises.
        digest: Digest,
        /// The size that the descriptor promises.
        expected_bytes: u64,
        /// The digest of what was read; "other content" where only the size is known.
        got: String,
        /// The size of what was read.
        got_bytes: u64,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
