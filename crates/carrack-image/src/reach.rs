//! Reachability: which blobs a record keeps alive.

use std::collections::BTreeSet;

use carrack_content::ContentStore;
use carrack_oci::{Descriptor, Digest, Document};

use crate::{Error, Image, ImageRecord, Result};

/// The blobs that `record` names: the target, the manifest, its config and layers; and of an index, every manifest
/// of another platform that is here, with all it names.
///
/// Layers are named whether or not the store has them (it drops what was unpacked).
pub fn reachable_blobs(content: &ContentStore, record: &ImageRecord) -> Result<BTreeSet<Digest>> {
    let mut images = vec![Image::load(content, &record.manifest)?];
    let is_here = |digest: &Digest| Ok::<_, Error>(content.size(digest)?.is_some());
    if record.target.digest != record.manifest.digest && is_here(&record.target.digest)? {
        for entry in entries(content, record)? {
            if is_here(&entry.digest)? {
                images.extend(Image::load(content, &entry).ok());
            }
        }
    }
    let blobs = images.iter().flat_map(Image::blobs).chain([&record.target]);
    Ok(blobs.map(|blob| blob.digest.clone()).collect())
}

fn entries(content: &ContentStore, record: &ImageRecord) -> Result<Vec<Descriptor>> {
    let bytes = content.read(&record.target.digest)?;
    let refuse = |source| Error::Document { object: format!("the index {}", record.target.digest), source };
    match Document::parse(&record.target.media_type, &bytes).map_err(refuse)? {
        Document::Index(index) => Ok(index.manifests),
        Document::Manifest(_) => Ok(Vec::new()),
    }
}
