//! The bytes of a layer: the store may have it as the compressed blob that the manifest names, as the uncompressed tar
//! that its diff ID names, or both.
//!
//! Whoever needs the exact bytes of a compressed layer asks [`LayerFinder`]: they are kept, or made again from the tar
//! by the recipe they were made by, or fetched from a repository that had them. All three are verified.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};
use std::thread::Scope;

use carrack_distribution::{Class, Client};
use carrack_image::{Image, LayerOrigin};
use carrack_layer::compression::{self, Method};
use carrack_oci::{Descriptor, DiffId, Digest, Repository};
use carrack_sys::IoContext;

use crate::stream::{BlobReader, Exact, produced};
use crate::{Engine, Result};

/// More threads would only fill memory: a disk is slower.
const MAX_COMPRESSION_THREADS: usize = 8;

/// Where the exact bytes of a layer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LayerBytes {
    /// The content store has the blob.
    Kept,
    /// The store has the tar, and carrack has made the blob of it by this method.
    Recipe { diff_id: DiffId, method: Method },
    /// This repository says that it has the blob.
    Repository(Repository),
}

/// Finds the exact bytes of layers, and opens them.
pub(crate) struct LayerFinder<'a> {
    engine: &'a Engine,
    /// One a registry, made when it is first asked.
    clients: Mutex<HashMap<String, Arc<Client>>>,
    /// Registries that did not answer once: each further question would wait as long.
    silent: Mutex<HashSet<String>>,
}

impl<'a> LayerFinder<'a> {
    pub fn new(engine: &'a Engine) -> Self {
        Self { engine, clients: Mutex::default(), silent: Mutex::default() }
    }

    /// Where the bytes of a layer are on this machine.
    pub fn find_here(&self, layer: &Descriptor) -> Result<Option<LayerBytes>> {
        if self.engine.content.size(&layer.digest)? == Some(layer.size) {
            return Ok(Some(LayerBytes::Kept));
        }
        let Some(origin) = self.engine.origins.get(&layer.digest)? else { return Ok(None) };
        match origin.method() {
            Some(method) if self.engine.content.size(&origin.diff_id.0)?.is_some() => {
                Ok(Some(LayerBytes::Recipe { diff_id: origin.diff_id, method }))
            }
            _ => Ok(None),
        }
    }

    /// The first repository that had the layer and still says so. One that cannot be asked counts as one without it.
    pub fn find_elsewhere(&self, layer: &Descriptor) -> Result<Option<LayerBytes>> {
        let Some(origin) = self.engine.origins.get(&layer.digest)? else { return Ok(None) };
        let mut silent = self.silent.lock().expect("no thread panics with the lock");
        for repository in origin.repositories {
            if silent.contains(repository.registry()) {
                continue;
            }
            match self.client(&repository)?.blob_exists(&repository, layer) {
                Ok(true) => return Ok(Some(LayerBytes::Repository(repository))),
                Ok(false) => {}
                Err(error) => {
                    tracing::info!(%error, layer = %layer.digest, "cannot ask where a layer came from");
                    if matches!(error.class(), Class::Unreachable | Class::Tls) {
                        silent.insert(repository.registry().to_owned());
                    }
                }
            }
        }
        Ok(None)
    }

    /// Opens the bytes; the last ones come only when all are right.
    pub fn open<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        layer: &'scope Descriptor,
        bytes: &'scope LayerBytes,
    ) -> Result<BlobReader> {
        let reader: BlobReader = match bytes {
            LayerBytes::Kept => Box::new(self.engine.content.open_blob(&layer.digest)?),
            LayerBytes::Recipe { diff_id, method } => {
                let mut tar = self.engine.content.open_blob(&diff_id.0)?;
                let made = produced(scope, move |out| {
                    let threads = compression_threads();
                    Ok(method.compress(&mut tar, out, threads).during("compress", "a layer")?)
                });
                let (origins, digest) = (self.engine.origins.clone(), layer.digest.clone());
                let forget = move || {
                    let forgotten = origins.forget_recipe(&digest);
                    tracing::warn!(layer = %digest, ?forgotten, "a layer is not made again as it was: its recipe is dropped");
                };
                return Ok(Box::new(Exact::new(made, layer).on_mismatch(forget)));
            }
            LayerBytes::Repository(repository) => {
                let client = self.client(repository)?;
                produced(scope, move |out| Ok(client.fetch_blob(repository, layer, out, &|_| {})?))
            }
        };
        Ok(Box::new(Exact::new(reader, layer)))
    }

    fn client(&self, repository: &Repository) -> Result<Arc<Client>> {
        let registry = repository.registry();
        let mut clients = self.clients.lock().expect("no thread panics with the lock");
        if let Some(client) = clients.get(registry) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(self.engine.client_of_registry(registry)?);
        clients.insert(registry.to_owned(), Arc::clone(&client));
        Ok(client)
    }
}

impl Engine {
    /// Whether the store has a layer's bytes in one form or the other.
    pub(crate) fn has_layer(&self, digest: &Digest, diff_id: &DiffId) -> Result<bool> {
        Ok(self.content.size(digest)?.is_some() || self.content.size(&diff_id.0)?.is_some())
    }

    /// Opens the uncompressed tar of a layer; what a compressed blob yields is the reader's to verify.
    pub(crate) fn open_layer_tar(&self, digest: &Digest, diff_id: &DiffId) -> Result<Box<dyn Read + Send>> {
        if self.content.size(&diff_id.0)?.is_some() {
            return Ok(Box::new(self.content.open_blob(&diff_id.0)?));
        }
        let blob = self.content.open_blob(digest)?;
        let (_, tar) = compression::auto(blob).during("read", self.content.blob_path(digest))?;
        Ok(tar)
    }

    /// Compresses the tar of a layer into a file without a name. The digest of the tar is checked on the way.
    pub(crate) fn compress_layer(
        &self,
        layer: &Digest,
        diff_id: &DiffId,
        method: Method,
    ) -> Result<(Digest, u64, File)> {
        let tar = self.open_layer_tar(layer, diff_id)?;
        let mut tar = carrack_oci::VerifyingReader::new(tar, diff_id.0.hasher());
        let mut out = self.content.scratch()?;
        method.compress(&mut tar, &mut out, compression_threads()).during("compress", "a layer")?;
        let (got, size_bytes) = tar.finish();
        if got != diff_id.0 {
            let expected = diff_id.0.clone();
            return Err(carrack_content::Error::DigestMismatch { expected, got, size_bytes }.into());
        }
        Ok(out.finish())
    }

    /// Notes for every layer of an image that `repository` has it.
    pub(crate) fn note_repository(&self, image: &Image, repository: &Repository) -> Result<()> {
        for layer in image.layers() {
            let Descriptor { digest, size, .. } = layer.descriptor;
            let origin = LayerOrigin::new(digest.clone(), *size, layer.diff_id.clone());
            self.origins.note(origin.seen_in(repository))?;
        }
        Ok(())
    }
}

fn compression_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_COMPRESSION_THREADS)
}

/// Reads an open file from its start, whoever else reads it: a blob that is sent again is opened again.
pub(crate) struct FromStart {
    pub file: Arc<File>,
    pub position: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}
