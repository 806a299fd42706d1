//! A complete image: its manifest and config, checked against each other.

use carrack_content::ContentStore;
use carrack_oci::{
    ChainId, Descriptor, DiffId, Digest, Document, DocumentError, ImageConfig, Manifest, media_type,
};
use jiff::Timestamp;

use crate::{Error, Result};

/// One image of one platform.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// The manifest's descriptor.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The config; it has one diff ID for each layer of the manifest.
    pub config: ImageConfig,
}

/// A layer as stored and as applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer<'a> {
    /// The blob, compressed or not.
    pub descriptor: &'a Descriptor,
    /// The digest of the uncompressed tar.
    pub diff_id: &'a DiffId,
    /// The stack up to and including this layer.
    pub chain_id: ChainId,
}

impl Image {
    /// Reads manifest and config from the content store.
    pub fn load(content: &ContentStore, manifest: &Descriptor) -> Result<Self> {
        let document = parse_manifest(manifest, &content.read(&manifest.digest)?)?;
        let config = content.read(&document.config.digest)?;
        Self::new(manifest.clone(), document, &config)
    }

    /// Parses both documents; their digests are the caller's to check.
    pub fn parse(descriptor: &Descriptor, manifest: &[u8], config: &[u8]) -> Result<Self> {
        Self::new(descriptor.clone(), parse_manifest(descriptor, manifest)?, config)
    }

    fn new(descriptor: Descriptor, manifest: Manifest, config: &[u8]) -> Result<Self> {
        let kind = &manifest.config.media_type;
        if !media_type::is_config(kind) {
            return Err(Error::Document {
                object: format!("the manifest {}", descriptor.digest),
                source: DocumentError::UnsupportedMediaType(kind.clone()),
            });
        }
        let config = ImageConfig::parse(config, &manifest).map_err(|source| Error::Document {
            object: format!("the config {}", manifest.config.digest),
            source,
        })?;
        Ok(Self { descriptor, manifest, config })
    }

    /// The image ID: the digest of the config.
    pub fn id(&self) -> &Digest {
        &self.manifest.config.digest
    }

    /// The layers, base first.
    pub fn layers(&self) -> Vec<Layer<'_>> {
        let diff_ids = &self.config.rootfs.diff_ids;
        let pairs = self.manifest.layers.iter().zip(diff_ids);
        let layer = |((descriptor, diff_id), chain_id)| Layer { descriptor, diff_id, chain_id };
        pairs.zip(ChainId::stack(diff_ids)).map(layer).collect()
    }

    /// The whole stack; `None` for an image without layers.
    pub fn chain_id(&self) -> Option<ChainId> {
        ChainId::stack(&self.config.rootfs.diff_ids).pop()
    }

    /// When the image says it was made; `None` when it does not say, or not in RFC 3339.
    pub fn created(&self) -> Option<Timestamp> {
        self.config.created.as_ref()?.parse().ok()
    }

    /// Every blob of the image, children first: config, layers, manifest.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.manifest.config).chain(&self.manifest.layers).chain([&self.descriptor])
    }

    /// The bytes of all blobs as stored; sizes are the manifest's word, so their sum is bounded, not trusted.
    pub fn blob_bytes(&self) -> u64 {
        self.blobs().fold(0, |sum, blob| sum.saturating_add(blob.size))
    }
}

/// Parses the manifest that `descriptor` names; an index is refused.
fn parse_manifest(descriptor: &Descriptor, bytes: &[u8]) -> Result<Manifest> {
    let refuse = |source| Error::Document { object: format!("the manifest {}", descriptor.digest), source };
    match Document::parse(&descriptor.media_type, bytes).map_err(refuse)? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => {
            let reason = "expected one image, got an index".to_owned();
            Err(refuse(DocumentError::Contradiction { what: "manifest", reason }))
        }
    }
}
