//! Reading what `docker save` and `podman save` write.
//!
//! `manifest.json` names, for each image, its config, its layers and its references. Old archives hold layers as
//! uncompressed tars and no OCI manifest: one is made of the config's diff IDs. Newer ones are an OCI layout as well:
//! the manifest of the layout that agrees with `manifest.json` is taken, so that the image keeps its digest.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use carrack_layer::compression::Compression;
use carrack_oci::{Descriptor, Digest, Document, ImageConfig, Manifest, Reference, media_type, parse_strict};
use carrack_sys::IoContext;
use serde::Deserialize;

use super::archive::Archive;
use super::files::{Files, blob_name};
use super::layout::{INDEX_FILE, display_name, parse_index};
use super::{Root, Source};
use crate::{Error, Result};

const KIND: &str = "docker archive";
pub(super) const MANIFEST_FILE: &str = "manifest.json";
const MAX_IMAGES: usize = 1024;
const MAX_LAYERS: usize = 500;
/// As many first bytes of a layer as tell its compression.
const MAGIC_BYTES: u64 = 16;
/// How many documents of the OCI layout are looked at for the image's own manifest.
const MAX_CANDIDATES: usize = 256;

/// One image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// An archive that images are read from.
pub struct DockerArchiveSource {
    files: Box<dyn Files>,
    roots: Vec<Root>,
    /// The bytes of each image's manifest.
    manifests: HashMap<Digest, Vec<u8>>,
    /// The file of each config and layer.
    blobs: HashMap<Digest, String>,
}

impl DockerArchiveSource {
    /// Opens an archive; `reference` chooses among its images. `scratch` is a folder that takes a compressed
    /// archive's uncompressed bytes.
    pub fn open(file: &Path, reference: Option<&Reference>, scratch: &Path) -> Result<Self> {
        let mut source = Self::new(Box::new(Archive::open(file, scratch)?))?;
        if let Some(reference) = reference {
            source.choose(reference)?;
        }
        Ok(source)
    }

    pub(super) fn new(files: Box<dyn Files>) -> Result<Self> {
        let roots = Vec::new();
        let mut source = Self { files, roots, manifests: HashMap::new(), blobs: HashMap::new() };
        let entries = source.entries()?;
        let candidates = source.layout_manifests()?;
        for entry in &entries {
            source.add(entry, &candidates)?;
        }
        Ok(source)
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        let bytes = self.files.read(MANIFEST_FILE)?;
        let bytes = bytes.ok_or_else(|| self.refuse(format!("it has no file {MANIFEST_FILE}")))?;
        let entries: Vec<Entry> =
            parse_strict(&bytes).map_err(|error| self.refuse(format!("{MANIFEST_FILE}: {error}")))?;
        if entries.len() > MAX_IMAGES {
            return Err(self.refuse(format!("expected at most {MAX_IMAGES} images, got {}", entries.len())));
        }
        Ok(entries)
    }

    /// The manifests of the OCI layout that newer archives are as well; indexes are looked into.
    fn layout_manifests(&self) -> Result<Vec<(Descriptor, Vec<u8>, Manifest)>> {
        let refuse = |object: String| move |source| Error::Document { object, source };
        let Some(bytes) = self.files.read(INDEX_FILE)? else { return Ok(Vec::new()) };
        let mut pending = parse_index(&bytes).map_err(refuse(INDEX_FILE.to_owned()))?.manifests;
        let mut found = Vec::new();
        for _ in 0..MAX_CANDIDATES {
            let Some(descriptor) = pending.pop() else { break };
            let name = blob_name(&descriptor.digest);
            // An index of several platforms names manifests that the archive does not hold.
            if self.files.open(&name)?.is_none() {
                continue;
            }
            let bytes = self.files.read_verified(&name, &descriptor)?;
            match Document::parse(&descriptor.media_type, &bytes).map_err(refuse(name))? {
                Document::Index(index) => pending.extend(index.manifests),
                Document::Manifest(manifest) => {
                    let bare = Descriptor::new(&descriptor.media_type, descriptor.digest, descriptor.size);
                    found.push((bare, bytes, manifest));
                }
            }
        }
        Ok(found)
    }

    fn add(&mut self, entry: &Entry, candidates: &[(Descriptor, Vec<u8>, Manifest)]) -> Result<()> {
        let made = self.make_manifest(entry)?;
        let digests = |manifest: &Manifest| {
            manifest.layers.iter().map(|layer| layer.digest.clone()).collect::<Vec<_>>()
        };
        let own = candidates.iter().find(|(_, _, manifest)| {
            manifest.config.digest == made.config.digest && digests(manifest) == digests(&made)
        });
        let (descriptor, bytes) = match own {
            Some((descriptor, bytes, _)) => (descriptor.clone(), bytes.clone()),
            None => {
                let bytes = serde_json::to_vec(&made).expect("a manifest has string keys only");
                (Descriptor::of(media_type::OCI_MANIFEST, &bytes), bytes)
            }
        };
        let names = entry.repo_tags.iter().flatten().map(|name| {
            let reference: Reference = name.parse().map_err(|error| self.refuse(format!("{error}")))?;
            Ok(reference.or_latest())
        });
        let names = names.collect::<Result<Vec<_>>>()?;
        match self.roots.iter_mut().find(|root| root.descriptor == descriptor) {
            Some(root) => root.names.extend(names),
            None => self.roots.push(Root { descriptor: descriptor.clone(), names }),
        }
        self.manifests.insert(descriptor.digest, bytes);
        Ok(())
    }

    fn make_manifest(&mut self, entry: &Entry) -> Result<Manifest> {
        let missing = |name: &str| self.refuse(format!("it has no file {name:?}"));
        let config = self.files.read(&entry.config)?.ok_or_else(|| missing(&entry.config))?;
        let parsed: ImageConfig =
            parse_strict(&config).map_err(|error| self.refuse(format!("{}: {error}", entry.config)))?;
        let (names, diff_ids) = (entry.layers.as_deref().unwrap_or_default(), &parsed.rootfs.diff_ids);
        if names.len() != diff_ids.len() || names.len() > MAX_LAYERS {
            let (layers, ids) = (names.len(), diff_ids.len());
            let reason =
                format!("{}: expected as many layers as diff IDs, got {layers} and {ids}", entry.config);
            return Err(self.refuse(reason));
        }
        let mut layers = Vec::with_capacity(names.len());
        for (name, diff_id) in names.iter().zip(diff_ids) {
            let layer = self.layer(name, &diff_id.0)?;
            self.blobs.insert(layer.digest.clone(), name.clone());
            layers.push(layer);
        }
        let config_descriptor = Descriptor::of(media_type::OCI_CONFIG, &config);
        self.blobs.insert(config_descriptor.digest.clone(), entry.config.clone());
        Ok(Manifest::oci(config_descriptor, layers))
    }

    /// The descriptor of a layer's file: an uncompressed one has its diff ID as digest, a compressed one is hashed
    /// unless its name is a digest (which is verified when the blob is read).
    fn layer(&self, name: &str, diff_id: &Digest) -> Result<Descriptor> {
        let opened = self.files.open(name)?.ok_or_else(|| self.refuse(format!("it has no file {name:?}")))?;
        let mut start = Vec::new();
        let at = self.files.path().join(name);
        let mut reader = opened.reader;
        reader.by_ref().take(MAGIC_BYTES).read_to_end(&mut start).during("read", &at)?;
        let media_type = match Compression::detect(&start) {
            Compression::None => {
                return Ok(Descriptor::new(media_type::OCI_LAYER, diff_id.clone(), opened.size_bytes));
            }
            Compression::Gzip => media_type::OCI_LAYER_GZIP,
            Compression::Zstd => media_type::OCI_LAYER_ZSTD,
            other => return Err(self.refuse(format!("{name}: unsupported compression {other:?} of a layer"))),
        };
        let named = name.strip_prefix("blobs/sha256/").and_then(|hex| format!("sha256:{hex}").parse().ok());
        let digest = match named {
            Some(digest) => digest,
            None => {
                let mut hashed =
                    carrack_oci::VerifyingReader::new(start.as_slice().chain(reader), diff_id.hasher());
                std::io::copy(&mut hashed, &mut std::io::sink()).during("read", &at)?;
                hashed.finish().0
            }
        };
        Ok(Descriptor::new(media_type, digest, opened.size_bytes))
    }

    fn choose(&mut self, reference: &Reference) -> Result<()> {
        let available = self.roots.iter().map(display_name).collect();
        self.roots.retain(|root| root.names.contains(reference));
        if self.roots.is_empty() {
            let expected = reference.familiar();
            return Err(Error::Choice { path: self.files.path().to_owned(), expected, available });
        }
        Ok(())
    }

    fn refuse(&self, reason: String) -> Error {
        Error::Format { kind: KIND, path: self.files.path().to_owned(), reason }
    }
}

impl Source for DockerArchiveSource {
    fn roots(&self) -> &[Root] {
        &self.roots
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let known = self.manifests.get(&descriptor.digest);
        known.cloned().ok_or_else(|| self.files.missing(&descriptor.digest))
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>> {
        let name =
            self.blobs.get(&descriptor.digest).ok_or_else(|| self.files.missing(&descriptor.digest))?;
        self.files.open_blob(name, descriptor)
    }

    fn path(&self) -> &Path {
        self.files.path()
    }
}
