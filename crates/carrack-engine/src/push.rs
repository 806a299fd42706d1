//! Push: an image of the store goes to a registry, layout or archive under the digest that it has, wherever its exact
//! bytes can still be had. Layers that were made here are compressed, once.

use std::sync::Arc;

use carrack_image::transport::Location;
use carrack_image::{Image, ImageRecord, LayerOrigin};
use carrack_layer::compression::Method;
use carrack_oci::{Descriptor, DiffId, Digest, Manifest, media_type};

use crate::error::OperationContext;
use crate::event::{Event, Observer, Phase};
use crate::layers::{LayerBytes, LayerFinder};
use crate::transfer::{PlannedBlob, Supply, Target, Transfer, TransferPlan};
use crate::{Engine, Error, Result};

/// In which form layers are pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushCompression {
    /// As they are.
    None,
    /// Compressed.
    Method {
        /// How.
        method: Method,
        /// Whether layers of the same format, but of another level, are compressed anew too.
        is_exact_level: bool,
    },
}

/// How an image is pushed.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// What the user asks for; without it, layers that were made here are compressed by gzip.
    pub compression: Option<PushCompression>,
    /// Compresses layers that have another format than `compression` anew, so that the digest of the image changes.
    pub is_forced: bool,
    /// Refuses whatever would change the digest of the image.
    pub preserve_digests: bool,
}

/// What becomes of one layer.
#[derive(Debug)]
enum LayerPlan {
    /// It is sent as it is.
    Keep(Supply),
    /// It is compressed, which gives the image another digest.
    Compress { method: Method, reason: Reason },
    /// It is sent as its plain tar, because the user asks for that.
    Plain,
}

/// Why a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// It was made here, and never compressed.
    New,
    /// The user asks for another format.
    Asked,
    /// The bytes that its digest names cannot be had any more.
    Lost,
}

impl Engine {
    /// Pushes the image that `name` names to `destination`; returns the digest that it has there.
    pub fn push(
        &self,
        name: &str,
        destination: &Location,
        options: &PushOptions,
        observer: Observer<'_>,
    ) -> Result<Digest> {
        let digest = self.push_found(name, destination, options, observer).operation("push", name)?;
        self.image_event("push", &digest.to_string(), &destination.to_string());
        Ok(digest)
    }

    pub(crate) fn push_found(
        &self,
        name: &str,
        destination: &Location,
        options: &PushOptions,
        observer: Observer<'_>,
    ) -> Result<Digest> {
        let _operation = self.operation()?;
        let record = self.images.find(name)?.record;
        let image = Image::load(&self.content, &record.manifest)?;
        if options.preserve_digests && record.target != record.manifest {
            let message = format!(
                "the digest {} cannot be kept: it is of an index, of which a push sends the image of {}",
                record.target.digest, record.platform
            );
            return Err(Error::refused(
                message,
                "copy the index: carrack copy --all store:IMAGE DESTINATION",
            ));
        }
        let target = Target::open(self, destination)?;
        let repository = target.repository().cloned();
        let finder = LayerFinder::new(self);
        let push = Push { engine: self, finder: &finder, options, observer };
        let plans = push.plan(&image, &target)?;
        push.refuse_or_warn(&image, &plans)?;
        let is_new = plans.iter().any(|plan| matches!(plan, LayerPlan::Compress { reason: Reason::New, .. }));
        let (image, bytes, layers) = push.compress(image, plans)?;
        if is_new {
            self.content.put(&bytes)?;
            self.repoint(&record, &image.descriptor)?;
        }
        let config = PlannedBlob {
            descriptor: image.manifest.config.clone(),
            supply: Supply::Stored(LayerBytes::Kept),
        };
        let plan = TransferPlan {
            blobs: without_doubles(layers.into_iter().chain([config])),
            documents: vec![(image.descriptor.clone(), bytes)],
            names: record.reference.into_iter().collect(),
        };
        let digest = Transfer { engine: self, finder: &finder, origin: None, observer }.run(&plan, target)?;
        if let Some(repository) = repository {
            self.note_repository(&image, &repository)?;
        }
        Ok(digest)
    }

    /// The image of `record` as it is pushed: layers that were made here are compressed now, and named so in all its
    /// records, for whoever needs its digest before a push.
    pub(crate) fn as_pushed(&self, record: &ImageRecord, observer: Observer<'_>) -> Result<Image> {
        let image = Image::load(&self.content, &record.manifest)?;
        let finder = LayerFinder::new(self);
        let push = Push { engine: self, finder: &finder, options: &PushOptions::default(), observer };
        let mut plans = Vec::new();
        for layer in image.layers() {
            plans.push(match push.wanted(layer.descriptor, layer.diff_id)? {
                Some((method, reason)) => LayerPlan::Compress { method, reason },
                None => LayerPlan::Keep(Supply::There),
            });
        }
        let (image, bytes, _) = push.compress(image, plans)?;
        if image.descriptor != record.manifest {
            self.content.put(&bytes)?;
            self.repoint(record, &image.descriptor)?;
        }
        Ok(image)
    }

    /// Has every name of an image that was made here name the manifest with compressed layers, so that a later push
    /// has nothing to decide; the image ID stays.
    fn repoint(&self, record: &ImageRecord, manifest: &Descriptor) -> Result<()> {
        for name in self.images.names_of(record.id())? {
            if name.manifest == record.manifest {
                let target =
                    if name.target == name.manifest { manifest.clone() } else { name.target.clone() };
                self.images.put(&ImageRecord { target, manifest: manifest.clone(), ..name })?;
            }
        }
        Ok(())
    }
}

/// An image may have one layer twice.
pub(crate) fn without_doubles(blobs: impl Iterator<Item = PlannedBlob>) -> Vec<PlannedBlob> {
    let mut seen = std::collections::HashSet::new();
    blobs.filter(|blob| seen.insert(blob.descriptor.digest.clone())).collect()
}

/// One push.
struct Push<'a> {
    engine: &'a Engine,
    finder: &'a LayerFinder<'a>,
    options: &'a PushOptions,
    observer: Observer<'a>,
}

impl Push<'_> {
    /// What becomes of each layer. Nothing is sent, but registries may be asked what they have.
    fn plan(&self, image: &Image, target: &Target) -> Result<Vec<LayerPlan>> {
        image
            .layers()
            .into_iter()
            .map(|layer| self.plan_layer(layer.descriptor, layer.diff_id, target))
            .collect()
    }

    fn plan_layer(&self, layer: &Descriptor, diff_id: &DiffId, target: &Target) -> Result<LayerPlan> {
        if let Some((method, reason)) = self.wanted(layer, diff_id)? {
            return Ok(LayerPlan::Compress { method, reason });
        }
        if self.options.is_forced
            && self.options.compression == Some(PushCompression::None)
            && layer.digest != diff_id.0
        {
            return Ok(LayerPlan::Plain);
        }
        if let Some(bytes) = self.finder.find_here(layer)? {
            return Ok(LayerPlan::Keep(Supply::Stored(bytes)));
        }
        if target.has(layer)? {
            return Ok(LayerPlan::Keep(Supply::There));
        }
        if let Some(bytes) = self.finder.find_elsewhere(layer)? {
            return Ok(LayerPlan::Keep(Supply::Stored(bytes)));
        }
        let method = match format_of(&layer.media_type) {
            Some(method) => method,
            None => Method::DEFAULT_GZIP,
        };
        Ok(LayerPlan::Compress { method, reason: Reason::Lost })
    }

    /// The compression that a layer must get although its bytes are at hand.
    fn wanted(&self, layer: &Descriptor, diff_id: &DiffId) -> Result<Option<(Method, Reason)>> {
        let PushOptions { compression, is_forced, preserve_digests } = self.options;
        // A plain layer that came from a registry is as its author wants it.
        let is_plain = matches!(layer.media_type.as_str(), media_type::OCI_LAYER | media_type::DOCKER_LAYER);
        let is_new =
            is_plain && layer.digest == diff_id.0 && self.engine.origins.get(&layer.digest)?.is_none();
        let (method, is_exact_level) = match compression {
            _ if is_new && *preserve_digests => return Ok(None),
            None if is_new => (Method::DEFAULT_GZIP, false),
            Some(PushCompression::Method { method, is_exact_level }) if is_new || *is_forced => {
                (*method, *is_exact_level)
            }
            _ => return Ok(None),
        };
        if is_new {
            return Ok(Some((method, Reason::New)));
        }
        let is_same_format =
            format_of(&layer.media_type).is_some_and(|format| is_same_format(format, method));
        let is_same_level = || -> Result<bool> {
            let origin = self.engine.origins.get(&layer.digest)?;
            Ok(!is_exact_level || origin.and_then(|origin| origin.method()) == Some(method))
        };
        let is_fine = is_same_format && is_same_level()?;
        Ok((!is_fine).then_some((method, Reason::Asked)))
    }

    /// Says that the digest of the image changes where the user cannot know it, or must not happen.
    fn refuse_or_warn(&self, image: &Image, plans: &[LayerPlan]) -> Result<()> {
        for (layer, plan) in image.manifest.layers.iter().zip(plans) {
            let digest = &layer.digest;
            let (fact, is_lost) = match plan {
                LayerPlan::Keep(_) | LayerPlan::Compress { reason: Reason::New, .. } => continue,
                LayerPlan::Plain => (format!("layer {digest} is compressed"), false),
                LayerPlan::Compress { reason: Reason::Asked, method } => {
                    (format!("layer {digest} has another format than {method}"), false)
                }
                LayerPlan::Compress { reason: Reason::Lost, .. } => {
                    let place = "neither kept here nor in any repository that had them";
                    (format!("the compressed bytes of layer {digest} are {place}"), true)
                }
            };
            if self.options.preserve_digests {
                let message = format!("the digest {} cannot be kept: {fact}", image.descriptor.digest);
                return Err(Error::refused(
                    message,
                    "without --preserve-digests the layer is compressed anew",
                ));
            }
            if is_lost {
                let text = format!("the digest of the image changes: {fact}; it is compressed anew");
                (self.observer)(Event::Warning(&text));
            }
        }
        Ok(())
    }

    /// Compresses what the plan says; returns the image as it is pushed, the bytes of its manifest, and its layers.
    fn compress(&self, image: Image, plans: Vec<LayerPlan>) -> Result<(Image, Vec<u8>, Vec<PlannedBlob>)> {
        let is_changed = plans.iter().any(|plan| !matches!(plan, LayerPlan::Keep(_)));
        let mut blobs = Vec::with_capacity(plans.len());
        for (layer, plan) in image.layers().into_iter().zip(plans) {
            blobs.push(match plan {
                LayerPlan::Keep(supply) => PlannedBlob { descriptor: layer.descriptor.clone(), supply },
                LayerPlan::Compress { method, .. } => {
                    self.compress_layer(layer.descriptor, layer.diff_id, method)?
                }
                LayerPlan::Plain => self.plain_layer(layer.diff_id)?,
            });
        }
        if !is_changed {
            let bytes = self.engine.content.read(&image.descriptor.digest)?;
            return Ok((image, bytes, blobs));
        }
        let layers = blobs.iter().map(|blob| blob.descriptor.clone()).collect();
        let manifest = in_one_family(Manifest { layers, ..image.manifest });
        for (blob, layer) in blobs.iter_mut().zip(&manifest.layers) {
            blob.descriptor.media_type.clone_from(&layer.media_type);
        }
        let bytes = serde_json::to_vec(&manifest).expect("a manifest has string keys only");
        let kind = manifest.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST);
        let descriptor = Descriptor::of(kind, &bytes);
        Ok((Image { descriptor, manifest, config: image.config }, bytes, blobs))
    }

    fn plain_layer(&self, diff_id: &DiffId) -> Result<PlannedBlob> {
        let size_bytes = self.engine.content.size(&diff_id.0)?.ok_or_else(|| {
            let message = format!("the store has no plain tar of the layer {diff_id}");
            Error::refused(message, "without --compression none the layer is pushed as it is")
        })?;
        let descriptor = Descriptor::new(media_type::OCI_LAYER, diff_id.0.clone(), size_bytes);
        Ok(PlannedBlob { descriptor, supply: Supply::Stored(LayerBytes::Kept) })
    }

    /// The layer in another form: known by its recipe, or made now.
    fn compress_layer(&self, layer: &Descriptor, diff_id: &DiffId, method: Method) -> Result<PlannedBlob> {
        let kind = match method {
            Method::Gzip { .. } => media_type::OCI_LAYER_GZIP,
            Method::Zstd { .. } => media_type::OCI_LAYER_ZSTD,
        };
        let known =
            self.engine.origins.of_tar(diff_id)?.into_iter().find(|known| known.method() == Some(method));
        if let Some(known) = known {
            let descriptor = Descriptor::new(kind, known.digest, known.size_bytes);
            if let Some(bytes) = self.finder.find_here(&descriptor)? {
                return Ok(PlannedBlob { descriptor, supply: Supply::Stored(bytes) });
            }
        }
        (self.observer)(Event::Blob { digest: &layer.digest, phase: Phase::Compressing });
        let made = self.engine.compress_layer(&layer.digest, diff_id, method);
        let (digest, size_bytes, file) = made.operation("compress", &layer.digest)?;
        self.engine
            .origins
            .note(LayerOrigin::new(digest.clone(), size_bytes, diff_id.clone()).made_by(method))?;
        (self.observer)(Event::Blob { digest: &layer.digest, phase: Phase::Complete });
        let descriptor = Descriptor::new(kind, digest, size_bytes);
        Ok(PlannedBlob { descriptor, supply: Supply::Made(Arc::new(file)) })
    }
}

/// The compression that a media type names, at its default level.
fn format_of(kind: &str) -> Option<Method> {
    match kind {
        media_type::OCI_LAYER_GZIP | media_type::DOCKER_LAYER_GZIP => Some(Method::DEFAULT_GZIP),
        media_type::OCI_LAYER_ZSTD => Some(Method::DEFAULT_ZSTD),
        _ => None,
    }
}

fn is_same_format(one: Method, two: Method) -> bool {
    std::mem::discriminant(&one) == std::mem::discriminant(&two)
}

/// A manifest of Docker's schema 2 names Docker's types, unless it has a zstd layer, for which there is none: such an
/// image becomes an OCI one.
fn in_one_family(mut manifest: Manifest) -> Manifest {
    let is_docker = manifest.media_type.as_deref() == Some(media_type::DOCKER_MANIFEST);
    let has_zstd = manifest.layers.iter().any(|layer| layer.media_type == media_type::OCI_LAYER_ZSTD);
    if !is_docker {
        return manifest;
    }
    let to_docker = |kind: &str| match kind {
        media_type::OCI_LAYER_GZIP => media_type::DOCKER_LAYER_GZIP.to_owned(),
        media_type::OCI_LAYER => media_type::DOCKER_LAYER.to_owned(),
        other => other.to_owned(),
    };
    let to_oci = |kind: &str| match kind {
        media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP.to_owned(),
        media_type::DOCKER_LAYER => media_type::OCI_LAYER.to_owned(),
        other => other.to_owned(),
    };
    for layer in &mut manifest.layers {
        layer.media_type = if has_zstd { to_oci(&layer.media_type) } else { to_docker(&layer.media_type) };
    }
    if has_zstd {
        manifest.media_type = Some(media_type::OCI_MANIFEST.to_owned());
        manifest.config.media_type = media_type::OCI_CONFIG.to_owned();
    }
    manifest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_manifest_stays_one_until_it_gets_a_zstd_layer() {
        let layer = |kind: &str| Descriptor::of(kind, kind.as_bytes());
        let docker = |layers| Manifest {
            media_type: Some(media_type::DOCKER_MANIFEST.to_owned()),
            ..Manifest::oci(layer(media_type::DOCKER_CONFIG), layers)
        };
        let kinds = |manifest: &Manifest| -> Vec<String> {
            manifest.layers.iter().map(|layer| layer.media_type.clone()).collect()
        };
        let gzip =
            in_one_family(docker(vec![layer(media_type::DOCKER_LAYER), layer(media_type::OCI_LAYER_GZIP)]));
        assert_eq!(kinds(&gzip), [media_type::DOCKER_LAYER, media_type::DOCKER_LAYER_GZIP]);
        assert_eq!(gzip.config.media_type, media_type::DOCKER_CONFIG);
        let zstd = in_one_family(docker(vec![
            layer(media_type::DOCKER_LAYER_GZIP),
            layer(media_type::OCI_LAYER_ZSTD),
        ]));
        assert_eq!(kinds(&zstd), [media_type::OCI_LAYER_GZIP, media_type::OCI_LAYER_ZSTD]);
        assert_eq!(zstd.config.media_type, media_type::OCI_CONFIG);
        assert_eq!(zstd.media_type.as_deref(), Some(media_type::OCI_MANIFEST));
    }
}
