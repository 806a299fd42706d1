//! The image record: a local name for an image that is complete.
//!
//! Invariant: a record that was read has been checked against its own file name, so it cannot pose as another.

use carrack_oci::{Descriptor, Digest, Platform, Reference};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Image;

/// What a reference means on this machine. Its existence says that every blob and snapshot it names is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRecord {
    /// The normalised name, with a tag or with a digest only; `None` for an image that lost its last name
    /// (`<none>` in `images`).
    pub reference: Option<Reference>,
    /// What the registry serves under the name: a manifest or an index (Docker's RepoDigest).
    pub target: Descriptor,
    /// The manifest of the platform that was pulled, loaded or built.
    pub manifest: Descriptor,
    /// The digest of the config: the image ID.
    pub config_digest: Digest,
    /// What the image runs on.
    pub platform: Platform,
    /// When the image says it was made, in seconds since 1970; 0 when it does not say.
    pub created_unix: i64,
    /// What `images` shows as the size: the unpacked layers where the writer of the record knows them, else the
    /// blobs.
    pub size_bytes: u64,
    /// Since when the name means this image; the store fills it in when the record is put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tagged: Option<Timestamp>,
}

impl ImageRecord {
    /// A record of `image` under `reference`, reached through `target`; its size is that of the blobs.
    pub fn new(reference: Option<Reference>, target: Descriptor, image: &Image) -> Self {
        Self {
            reference: reference.map(Reference::or_latest),
            target,
            manifest: image.descriptor.clone(),
            config_digest: image.id().clone(),
            platform: image.config.platform(),
            created_unix: image.created().map_or(0, |created| created.as_second()),
            size_bytes: image.blob_bytes(),
            tagged: None,
        }
    }

    /// The image ID.
    pub fn id(&self) -> &Digest {
        &self.config_digest
    }

    /// `repository@digest` of what the registry serves; `None` without a name.
    pub fn repo_digest(&self) -> Option<Reference> {
        Some(self.reference.as_ref()?.at(self.target.digest.clone()))
    }

    /// The name of the record's file: the reference decides, or the manifest where there is no reference.
    pub(crate) fn file_name(&self) -> String {
        match &self.reference {
            Some(reference) => file_name(reference),
            None => name_of(self.manifest.digest.as_str()),
        }
    }
}

/// The file name of a record, a log or a list of `reference`.
pub(crate) fn file_name(reference: &Reference) -> String {
    name_of(&reference.to_string())
}

/// References hold characters that file names cannot, and are longer than file names may be: their digest names
/// the file.
fn name_of(key: &str) -> String {
    format!("{}.json", Digest::of(key.as_bytes()).hex())
}
