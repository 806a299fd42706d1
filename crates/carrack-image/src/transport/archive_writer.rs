//! Writing images as one tar: an OCI layout, and for Docker the `manifest.json` that its loaders read beside it.
//!
//! Invariant: the bytes depend on the images only (no times, no owners), and nothing is sought: a pipe will do. A
//! file gets its name when it is complete.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use carrack_layer::tar::{Entry, EntryKind, Writer};
use carrack_oci::{Descriptor, Digest, Document, Index, Manifest, Platform, Reference};
use carrack_sys::{IoContext, atomic};
use serde_json::{Value, json};

use super::docker_archive::MANIFEST_FILE;
use super::files::blob_name;
use super::layout::{INDEX_FILE, LAYOUT_FILE, LAYOUT_TEXT};
use super::layout_writer::index_entries;
use super::staged::StagedFile;
use super::{Destination, Root, verified};
use crate::{Error, Result};

const KIND: &str = "archive";

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
    tar: Writer<Sink>,
    format: ArchiveFormat,
    /// For messages, and the name of the file.
    path: PathBuf,
    written: HashSet<Digest>,
    documents: HashMap<Digest, Document>,
}

enum Sink {
    /// Named `path` at the end.
    Staged(StagedFile),
    /// A pipe, a terminal, a device.
    Stream(Box<dyn Write + Send>),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Staged(file) => file.write(bytes),
            Self::Stream(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Staged(file) => file.flush(),
            Self::Stream(stream) => stream.flush(),
        }
    }
}

impl ArchiveWriter {
    /// Begins an archive at `file`. A regular file is replaced when the archive is complete; a device or a pipe is
    /// written to.
    pub fn create(file: &Path, format: ArchiveFormat) -> Result<Self> {
        let is_special = fs::metadata(file).is_ok_and(|metadata| !metadata.is_file());
        let sink = if is_special {
            let stream = fs::OpenOptions::new().write(true).open(file).during("open", file)?;
            Sink::Stream(Box::new(stream))
        } else {
            Sink::Staged(StagedFile::create(super::staged::folder_of(file))?)
        };
        Ok(Self::new(sink, file, format))
    }

    /// Begins an archive on a stream; `name` is for messages.
    pub fn to_stream(stream: impl Write + Send + 'static, name: &str, format: ArchiveFormat) -> Self {
        Self::new(Sink::Stream(Box::new(stream)), Path::new(name), format)
    }

    fn new(sink: Sink, path: &Path, format: ArchiveFormat) -> Self {
        let (written, documents) = (HashSet::new(), HashMap::new());
        Self { tar: Writer::new(sink), format, path: path.to_owned(), written, documents }
    }

    fn append(&mut self, name: &str, size_bytes: u64, data: impl Read) -> Result<()> {
        let entry = Entry {
            path: PathBuf::from(name),
            kind: EntryKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            size_bytes,
            xattrs: Vec::new(),
        };
        self.tar.append(&entry, data).map_err(|error| self.refuse(error.to_string()))
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
        let names = |root: &Root| match &self.format {
            ArchiveFormat::Docker { reference: Some(reference) } => vec![reference.familiar()],
            _ => root.names.iter().map(Reference::familiar).collect(),
        };
        let image = |root: &Root| {
            let manifest = self.manifest_of(&root.descriptor)?;
            let layers: Vec<String> = manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect();
            Ok(
                json!({"Config": blob_name(&manifest.config.digest), "RepoTags": names(root), "Layers": layers}),
            )
        };
        roots.iter().map(image).collect()
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
        }
        let Self { tar, path, .. } = *self;
        match tar.finish().map_err(|error| Error::Format {
            kind: KIND,
            path: path.clone(),
            reason: error.to_string(),
        })? {
            Sink::Stream(mut stream) => Ok(stream.flush().during("write", &path)?),
            Sink::Staged(file) => {
                file.name(&path)?;
                Ok(atomic::sync_parent(&super::staged::folder_of(&path).join("any"))?)
            }
        }
    }
}
