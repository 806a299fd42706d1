//! Reading an OCI image layout (image-spec, `image-layout.md`), from a folder or an archive.

use std::io::Read;
use std::path::Path;

use carrack_oci::{Descriptor, Document, Index, Reference, media_type};
use serde::Deserialize;

use super::archive::Archive;
use super::files::{Files, Folder, blob_name};
use super::{Root, Source};
use crate::{Error, Result};

pub(super) const KIND: &str = "OCI layout";
pub(super) const LAYOUT_FILE: &str = "oci-layout";
pub(super) const LAYOUT_TEXT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
pub(super) const INDEX_FILE: &str = "index.json";

/// The tag, or as podman writes it the full name, of an entry of `index.json`.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The full name, as Docker writes it.
pub(super) const IMAGE_NAME: &str = "io.containerd.image.name";

/// A layout that images are read from.
pub struct LayoutSource {
    files: Box<dyn Files>,
    roots: Vec<Root>,
}

impl LayoutSource {
    /// Opens a layout folder; `tag` chooses among its images by `org.opencontainers.image.ref.name`.
    pub fn open(folder: &Path, tag: Option<&str>) -> Result<Self> {
        Self::new(Box::new(Folder::open(folder)?), tag)
    }

    /// Opens a tar of a layout; `scratch` is a folder that takes a compressed archive's uncompressed bytes.
    pub fn open_archive(file: &Path, tag: Option<&str>, scratch: &Path) -> Result<Self> {
        Self::new(Box::new(Archive::open(file, scratch)?), tag)
    }

    pub(super) fn new(files: Box<dyn Files>, tag: Option<&str>) -> Result<Self> {
        check_version(files.as_ref())?;
        let refuse = |reason: String| Error::Format { kind: KIND, path: files.path().to_owned(), reason };
        let bytes = files.read(INDEX_FILE)?.ok_or_else(|| refuse(format!("it has no {INDEX_FILE}")))?;
        let index = parse_index(&bytes).map_err(|source| Error::Document {
            object: files.path().join(INDEX_FILE).display().to_string(),
            source,
        })?;
        let roots = choose(group(index), tag, files.path())?;
        Ok(Self { files, roots })
    }
}

/// Parses `index.json`, whose media type may be absent (umoci and skopeo leave it out).
pub(super) fn parse_index(bytes: &[u8]) -> Result<Index, carrack_oci::DocumentError> {
    match Document::parse(media_type::OCI_INDEX, bytes)? {
        Document::Index(index) => Ok(index),
        Document::Manifest(_) => unreachable!("parsed as an index"),
    }
}

/// Refuses a folder or archive that is no layout of version 1.
pub(super) fn check_version(files: &dyn Files) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let refuse = |reason: String| Error::Format { kind: KIND, path: files.path().to_owned(), reason };
    let bytes = files.read(LAYOUT_FILE)?.ok_or_else(|| {
        refuse(format!("it has no file {LAYOUT_FILE}; a tar of plain files is taken by `carrack import`"))
    })?;
    let layout: Layout =
        carrack_oci::parse_strict(&bytes).map_err(|error| refuse(format!("{LAYOUT_FILE}: {error}")))?;
    match layout.image_layout_version.as_str() {
        "1.0.0" => Ok(()),
        other => Err(refuse(format!("expected version 1.0.0, got {other:?}"))),
    }
}

/// Several entries may give names to one image: they become one root.
fn group(index: Index) -> Vec<Root> {
    let mut roots: Vec<Root> = Vec::new();
    for descriptor in index.manifests {
        let name = full_name(&descriptor);
        match roots.iter_mut().find(|root| is_same_entry(&root.descriptor, &descriptor)) {
            Some(root) => root.names.extend(name),
            None => roots.push(Root { descriptor, names: name.into_iter().collect() }),
        }
    }
    roots
}

/// Entries with different bare tags stay apart, so that each tag can be chosen.
fn is_same_entry(one: &Descriptor, two: &Descriptor) -> bool {
    let bare = |entry: &Descriptor| match full_name(entry) {
        Some(_) => None,
        None => entry.annotation(REF_NAME).map(str::to_owned),
    };
    one.digest == two.digest && bare(one) == bare(two)
}

/// The full name of an entry: a bare tag says nothing of the repository.
fn full_name(descriptor: &Descriptor) -> Option<Reference> {
    let is_full = |name: &&str| name.contains(['/', ':']);
    let names = [IMAGE_NAME, REF_NAME].into_iter().filter_map(|key| descriptor.annotation(key));
    names.filter(is_full).find_map(|name| name.parse().ok()).map(Reference::or_latest)
}

/// The roots that `tag` names: literally, or as the full name that it abbreviates.
fn choose(mut roots: Vec<Root>, tag: Option<&str>, path: &Path) -> Result<Vec<Root>> {
    let Some(tag) = tag else { return Ok(roots) };
    let available = roots.iter().map(display_name).collect();
    let meant = tag.parse::<Reference>().ok().map(Reference::or_latest);
    let is_literal = |root: &Root| root.descriptor.annotation(REF_NAME) == Some(tag);
    if roots.iter().any(is_literal) {
        roots.retain(is_literal);
    } else {
        roots.retain(|root| meant.as_ref().is_some_and(|meant| root.names.contains(meant)));
    }
    if roots.is_empty() {
        return Err(Error::Choice { path: path.to_owned(), expected: format!("{tag:?}"), available });
    }
    Ok(roots)
}

/// What a user would call a root.
pub(super) fn display_name(root: &Root) -> String {
    match (root.names.first(), root.descriptor.annotation(REF_NAME)) {
        (Some(name), _) => name.familiar(),
        (None, Some(tag)) => format!("{tag:?}"),
        (None, None) => root.descriptor.digest.to_string(),
    }
}

impl Source for LayoutSource {
    fn roots(&self) -> &[Root] {
        &self.roots
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.files.read_verified(&blob_name(&descriptor.digest), descriptor)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>> {
        self.files.open_blob(&blob_name(&descriptor.digest), descriptor)
    }

    fn path(&self) -> &Path {
        self.files.path()
    }
}
