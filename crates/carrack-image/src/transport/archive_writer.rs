//! Writing images as one tar: an OCI layout, and for Docker the `manifest.json` that its loaders read beside it.
//!
//! Invariant: the bytes depend on the images only (no times, no owners), and nothing is sought: a pipe will do. A
//! file gets its name when it is complete.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use carrack_content::Blob;
use carrack_layer::tar::{Entry, EntryKind, Writer};
use carrack_oci::{Descriptor, Digest, Document, Index, Manifest, Platform, Reference};
use serde_json::{Value, json};

use super::docker_archive::MANIFEST_FILE;
use super::files::blob_name;
use super::layout::{INDEX_FILE, LAYOUT_FILE, LAYOUT_TEXT};
use super::layout_writer::index_entries;
use super::output::Output;
use super::{Destination, Root, verified};
use crate::{Error, Result};

const KIND: &str = "archive";
const REPOSITORIES_FILE: &str = "repositories";

/// What a tar of images is to be read as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// An OCI layout; with a tag, the image gets this name in it instead of those of its root.
    Oci {
        /// `org.opencontainers.image.ref.name`
        tag: Option<String>,
    },
    /// `docker load`; with a reference, the image gets this name in it instead of those of its root.
    Docker {
        /// The one of `RepoTags`.
        reference: Option<Reference>,
    },
}

/// A tar that images are written to.
pub struct ArchiveWriter {
    tar: Writer<Output>,
    format: ArchiveFormat,
    /// For messages, and the name of the file.
    path: PathBuf,
    written: HashSet<Digest>,
    documents: HashMap<Digest, Document>,
}

impl ArchiveWriter {
    /// Begins an archive at `file`. A regular file is replaced when the archive is complete; a device or a pipe is
    /// written to.
    pub fn create(file: &Path, format: ArchiveFormat) -> Result<Self> {
        Ok(Self::new(Output::create(file)?, format))
    }

    /// Begins an archive on what is open already.
    pub fn new(output: Output, format: ArchiveFormat) -> Self {
        let path = output.path().to_owned();
        Self { tar: Writer::new(output), format, path, written: HashSet::new(), documents: HashMap::new() }
    }

    fn append(&mut self, name: &str, size_bytes: u64, data: impl Read) -> Result<()> {
        self.tar.append(&entry(name, size_bytes), data).map_err(|error| self.refuse(error.to_string()))
    }

    fn append_json(&mut self, name: &str, value: &Value) -> Result<()> {
        let bytes = serde_json::to_vec(value).expect("JSON values serialise");
        self.append(name, bytes.len() as u64, bytes.as_slice())
    }

    fn refuse(&self, reason: String) -> Error {
        Error::Format { kind: KIND, path: self.path.clone(), reason }
    }

    /// The images of `manifest.json`: each root, and of an index the manifest that runs here.
    fn docker_manifest(&self, roots: &[Root]) -> Result<Value> {
        let image = |root: &Root| {
            let manifest = self.manifest_of(&root.descriptor)?;
            let layers: Vec<String> = manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect();
            // An image without a name has no list, as in Docker's archives.
            let names: Vec<String> = self.names(root).iter().map(Reference::familiar).collect();
            let tags = if names.is_empty() { Value::Null } else { json!(names) };
            Ok(json!({"Config": blob_name(&manifest.config.digest), "RepoTags": tags, "Layers": layers}))
        };
        roots.iter().map(image).collect()
    }

    /// What loaders older than `manifest.json` read, and scripts still do: the topmost layer of each name.
    fn repositories(&self, roots: &[Root]) -> Result<Value> {
        let mut repositories = serde_json::Map::new();
        for root in roots {
            let Some(top) = self.manifest_of(&root.descriptor)?.layers.last() else { continue };
            for name in self.names(root) {
                let tag = name.tag().unwrap_or("latest").to_owned();
                let tags = repositories.entry(name.familiar_repository()).or_insert_with(|| json!({}));
                tags[tag] = top.digest.hex().into();
            }
        }
        Ok(Value::Object(repositories))
    }

    fn names(&self, root: &Root) -> Vec<Reference> {
        match &self.format {
            ArchiveFormat::Docker { reference: Some(reference) } => vec![reference.clone()],
            _ => root.names.clone(),
        }
    }

    fn manifest_of(&self, descriptor: &Descriptor) -> Result<&Manifest> {
        let missing = || Error::BlobNotFound { digest: descriptor.digest.clone(), path: self.path.clone() };
        match self.documents.get(&descriptor.digest).ok_or_else(missing)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(index) => {
                let is_here = |entry: &&Descriptor| {
                    matches!(self.documents.get(&entry.digest), Some(Document::Manifest(_)))
                };
                let here = Index::oci(index.manifests.iter().filter(is_here).cloned().collect());
                let chosen = here.choose(&Platform::host()).or(here.manifests.first()).ok_or_else(missing)?;
                self.manifest_of(chosen)
            }
        }
    }
}

fn entry(name: &str, size_bytes: u64) -> Entry {
    Entry {
        path: PathBuf::from(name),
        kind: EntryKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        size_bytes,
        xattrs: Vec::new(),
    }
}

impl Destination for ArchiveWriter {
    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.written.contains(&descriptor.digest))
    }

    fn put_blob(&mut self, descriptor: &Descriptor, blob: &mut dyn Read) -> Result<()> {
        if self.written.insert(descriptor.digest.clone()) {
            let mut reader = verified::Checked::new(descriptor, blob);
            self.append(&blob_name(&descriptor.digest), descriptor.size, &mut reader)?;
            reader.finish()?;
        }
        Ok(())
    }

    fn put_stored(&mut self, descriptor: &Descriptor, blob: Blob) -> Result<()> {
        if self.written.insert(descriptor.digest.clone()) {
            verified::size(descriptor, blob.size_bytes())?;
            let entry = entry(&blob_name(&descriptor.digest), descriptor.size);
            let copied = self.tar.append_with(&entry, |output| output.copy_from(&blob));
            copied.map_err(|error| self.refuse(error.to_string()))?;
        }
        Ok(())
    }

    fn put_manifest(&mut self, descriptor: &Descriptor, mut bytes: &[u8]) -> Result<()> {
        let document = Document::parse(&descriptor.media_type, bytes).map_err(|source| Error::Document {
            object: format!("the manifest {}", descriptor.digest),
            source,
        })?;
        self.documents.insert(descriptor.digest.clone(), document);
        self.put_blob(descriptor, &mut bytes)
    }

    fn finish(mut self: Box<Self>, roots: &[Root]) -> Result<()> {
        let tag = match &self.format {
            ArchiveFormat::Oci { tag } => tag.clone(),
            ArchiveFormat::Docker { reference } => reference.as_ref().map(ToString::to_string),
        };
        let entries: Vec<Value> = roots.iter().flat_map(|root| index_entries(root, tag.as_deref())).collect();
        self.append(LAYOUT_FILE, LAYOUT_TEXT.len() as u64, LAYOUT_TEXT)?;
        self.append_json(INDEX_FILE, &json!({"schemaVersion": 2, "manifests": entries}))?;
        if matches!(self.format, ArchiveFormat::Docker { .. }) {
            let manifest = self.docker_manifest(roots)?;
            self.append_json(MANIFEST_FILE, &manifest)?;
            let repositories = self.repositories(roots)?;
            self.append_json(REPOSITORIES_FILE, &repositories)?;
        }
        let Self { tar, path, .. } = *self;
        let refuse = |reason| Error::Format { kind: KIND, path, reason };
        tar.finish().map_err(|error| refuse(error.to_string()))?.finish()
    }
}
