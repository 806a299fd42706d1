//! Push: make every layer ready for the wire, then upload children first, the tag last.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Mutex;

use carrack_distribution::{Client, Pushed};
use carrack_image::transport::{Location, Root};
use carrack_image::{Image, ImageRecord};
use carrack_layer::compression::GzipWriter;
use carrack_oci::{Descriptor, Digest, Manifest, Reference, media_type};
use carrack_sys::IoContext;

use crate::error::OperationContext;
use crate::event::{Event, Observer, Phase};
use crate::{Engine, Result};

impl Engine {
    /// Pushes the image that `name` names to `destination`; returns the digest that it has there.
    pub fn push(&self, name: &str, destination: &Location, observer: Observer<'_>) -> Result<Digest> {
        self.push_found(name, destination, observer).operation("push", name)
    }

    fn push_found(&self, name: &str, destination: &Location, observer: Observer<'_>) -> Result<Digest> {
        let _operation = self.operation()?;
        let record = self.images.find(name)?.record;
        let image = self.compress_layers(&record, observer)?;
        match destination {
            Location::Registry(reference) => {
                let place = self.push_place(&reference.clone().or_latest())?;
                self.push_to_registry(&image, place.client()?, &place.reference, observer)
            }
            local => self.write_to(&image, record.reference, local, observer),
        }?;
        Ok(image.descriptor.digest)
    }

    /// Gives an image that was built or imported here the compressed layers that registries expect. Its records
    /// then name the new manifest, so that a later push has nothing to compress; the image ID stays.
    fn compress_layers(&self, record: &ImageRecord, observer: Observer<'_>) -> Result<Image> {
        let image = Image::load(&self.content, &record.manifest)?;
        let is_plain = |layer: &&Descriptor| layer.media_type == media_type::OCI_LAYER;
        if !image.manifest.layers.iter().any(|layer| is_plain(&layer)) {
            return Ok(image);
        }
        let mut layers = Vec::with_capacity(image.manifest.layers.len());
        for layer in &image.manifest.layers {
            layers.push(if is_plain(&layer) { self.compress_layer(layer, observer)? } else { layer.clone() });
        }
        let manifest = Manifest { layers, ..image.manifest };
        let bytes = serde_json::to_vec(&manifest).expect("a manifest has string keys only");
        self.content.put(&bytes)?;
        let descriptor = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
        for name in self.images.names_of(record.id())? {
            if name.manifest == record.manifest {
                let target =
                    if name.target == name.manifest { descriptor.clone() } else { name.target.clone() };
                self.images.put(&ImageRecord { target, manifest: descriptor.clone(), ..name })?;
            }
        }
        Ok(Image { descriptor, manifest, config: image.config })
    }

    fn compress_layer(&self, layer: &Descriptor, observer: Observer<'_>) -> Result<Descriptor> {
        observer(Event::Blob { digest: &layer.digest, phase: Phase::Compressing });
        let mut tar = self.content.open_blob(&layer.digest)?;
        let mut gzip = GzipWriter::new(self.content.writer()?);
        io::copy(&mut tar, &mut gzip).during("compress", self.content.blob_path(&layer.digest))?;
        let writer = gzip.finish().during("compress", self.content.blob_path(&layer.digest))?;
        let (digest, size_bytes) = writer.commit()?;
        observer(Event::Blob { digest: &layer.digest, phase: Phase::Complete });
        Ok(Descriptor::new(media_type::OCI_LAYER_GZIP, digest, size_bytes))
    }

    fn push_to_registry(
        &self,
        image: &Image,
        client: &Client,
        reference: &Reference,
        observer: Observer<'_>,
    ) -> Result<()> {
        let blobs: Vec<&Descriptor> = image.manifest.layers.iter().chain([&image.manifest.config]).collect();
        let upload = Upload { engine: self, client, reference, observer };
        upload.blobs(&blobs, self.environment.settings.registries.parallel_layers)?;
        let bytes = self.content.read(&image.descriptor.digest)?;
        let kind = &image.descriptor.media_type;
        client.put_manifest(reference.repository(), reference.manifest_key(), kind, &bytes)?;
        Ok(())
    }

    fn write_to(
        &self,
        image: &Image,
        name: Option<Reference>,
        location: &Location,
        observer: Observer<'_>,
    ) -> Result<()> {
        let mut destination = location.destination()?;
        for blob in image.manifest.layers.iter().chain([&image.manifest.config]) {
            destination.put_blob(blob, &mut self.content.open_blob(&blob.digest)?)?;
            observer(Event::Blob { digest: &blob.digest, phase: Phase::Complete });
        }
        destination.put_manifest(&image.descriptor, &self.content.read(&image.descriptor.digest)?)?;
        let names = name.into_iter().collect();
        Ok(destination.finish(&[Root { descriptor: image.descriptor.clone(), names }])?)
    }
}

/// The blobs of one push, several at once.
struct Upload<'a> {
    engine: &'a Engine,
    client: &'a Client,
    reference: &'a Reference,
    observer: Observer<'a>,
}

impl Upload<'_> {
    fn blobs(&self, blobs: &[&Descriptor], threads: usize) -> Result<()> {
        for blob in blobs {
            (self.observer)(Event::Blob { digest: &blob.digest, phase: Phase::Waiting });
        }
        let queue = Mutex::new(blobs.iter().copied().collect::<VecDeque<_>>());
        let next = || queue.lock().expect("no thread panics with the lock").pop_front();
        let work = || {
            while let Some(blob) = next() {
                self.blob(blob).operation("upload", &blob.digest).inspect_err(|_| {
                    queue.lock().expect("no thread panics with the lock").clear();
                })?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let others: Vec<_> =
                (1..threads.clamp(1, 16).min(blobs.len().max(1))).map(|_| scope.spawn(work)).collect();
            let own = work();
            others.into_iter().map(|other| other.join().expect("uploads do not panic")).fold(own, Result::and)
        })
    }

    fn blob(&self, blob: &Descriptor) -> Result<()> {
        let tell = |phase| (self.observer)(Event::Blob { digest: &blob.digest, phase });
        let repository = self.reference.repository();
        if self.client.blob_exists(repository, blob)? {
            tell(Phase::Exists);
            return Ok(());
        }
        for from in self.engine.repositories_with(self.reference, &blob.digest)? {
            if self.client.mount_blob(repository, &blob.digest, &from)? {
                tell(Phase::Mounted);
                return Ok(());
            }
        }
        let path = self.engine.content.blob_path(&blob.digest);
        let progress = |done| tell(Phase::Transferring { done, total: blob.size });
        let pushed = self.client.push_blob(repository, blob, &|| File::open(&path), &progress)?;
        tell(if pushed == Pushed::Exists { Phase::Exists } else { Phase::Pushed });
        Ok(())
    }
}

impl Engine {
    /// Other repositories of the same registry from which this machine has an image with the blob, so that the
    /// registry can link it instead of receiving it again; at most a few, each is a request.
    fn repositories_with(
        &self,
        destination: &Reference,
        digest: &Digest,
    ) -> Result<Vec<carrack_oci::Repository>> {
        const MAX_CANDIDATES: usize = 3;
        let mut found = Vec::new();
        for record in self.images.list()? {
            let Some(reference) = &record.reference else { continue };
            let repository = reference.repository();
            let is_other = repository.registry() == destination.repository().registry()
                && repository != destination.repository()
                && !found.contains(repository);
            if is_other && found.len() < MAX_CANDIDATES {
                let image = Image::load(&self.content, &record.manifest)?;
                if image.blobs().any(|blob| blob.digest == *digest) {
                    found.push(repository.clone());
                }
            }
        }
        Ok(found)
    }
}
