//! Pull: resolve, plan what is missing, fetch and unpack it several layers at once, name the image last.

use std::collections::VecDeque;
use std::sync::Mutex;

use carrack_image::transport::Location;
use carrack_image::{Image, ImageRecord};
use carrack_oci::{Descriptor, DiffId, Document, Platform, Reference, media_type};
use carrack_snapshot::Unpacked;

use crate::copy::choose;
use crate::error::OperationContext;
use crate::event::{Event, Observer, Phase};
use crate::origin::Origin;
use crate::{Engine, Error, Result};

/// What a pull did.
#[derive(Debug)]
pub struct Pulled {
    /// The record that now stands.
    pub record: ImageRecord,
    /// Whether there was anything to do.
    pub is_new: bool,
}

/// What a pull will do: everything that is missing, as data.
struct PullPlan {
    target: Descriptor,
    image: Image,
    layers: Vec<MissingLayer>,
}

/// A layer whose snapshot is missing; its blob may be there.
#[derive(Clone)]
pub(crate) struct MissingLayer {
    /// Its place in the stack, from 0.
    pub position: usize,
    pub descriptor: Descriptor,
    pub diff_id: DiffId,
}

impl Engine {
    /// Pulls the image at `location` for `platform` and records it under its name.
    pub fn pull(&self, location: &Location, platform: &Platform, observer: Observer<'_>) -> Result<Pulled> {
        let pulled =
            Origin::open(self, location).and_then(|origin| self.pull_image(&origin, platform, observer));
        let pulled = self.clear_after_refusal(pulled).operation("pull", location)?;
        self.record_event("pull", &pulled.record);
        self.enforce_size_cap(&[pulled.record.id()], observer)?;
        Ok(pulled)
    }

    /// Pulls what `origin` has for `platform`.
    pub(crate) fn pull_image(
        &self,
        origin: &Origin,
        platform: &Platform,
        observer: Observer<'_>,
    ) -> Result<Pulled> {
        let _operation = self.operation()?;
        self.pull_from(origin, platform, observer)
    }

    /// Pulls the image of an opened place; the caller holds the operation.
    pub(crate) fn pull_from(
        &self,
        origin: &Origin,
        platform: &Platform,
        observer: Observer<'_>,
    ) -> Result<Pulled> {
        self.pull_as(origin, None, platform, observer)
    }

    /// The same, recorded under `name` instead of the name that the place has for it.
    pub(crate) fn pull_as(
        &self,
        origin: &Origin,
        name: Option<Reference>,
        platform: &Platform,
        observer: Observer<'_>,
    ) -> Result<Pulled> {
        let plan = self.plan_pull(origin, platform)?;
        for layer in &plan.image.manifest.layers {
            let is_missing = plan.layers.iter().any(|missing| missing.descriptor.digest == layer.digest);
            let phase = if is_missing { Phase::Waiting } else { Phase::Exists };
            observer(Event::Blob { digest: &layer.digest, phase });
        }
        let made_for = plan.image.config.platform();
        if !made_for.architecture.is_empty() && platform.distance(&made_for).is_none() {
            let text =
                format!("the image is for {made_for}, which does not match the wanted platform {platform}");
            observer(Event::Warning(&text));
        }
        let is_complete = plan.layers.is_empty();
        let unpacked = self.fetch_layers(origin, &plan.layers, observer)?;
        self.stack_layers(&plan.image, unpacked)?;
        if let Some(repository) = origin.repository() {
            self.note_repository(&plan.image, repository)?;
        }
        let record = ImageRecord::new(name.or_else(|| origin.name()), plan.target, &plan.image);
        let record = ImageRecord { size_bytes: self.unpacked_bytes(&plan.image)?, ..record };
        let is_new = !is_complete || !self.has_same(&record)?;
        self.put_record(&record)?;
        Ok(Pulled { record, is_new })
    }

    /// Whether the name of a record means the same already; without a name, whether the image is here.
    fn has_same(&self, record: &ImageRecord) -> Result<bool> {
        Ok(match &record.reference {
            Some(name) => {
                self.images.get(name)?.is_some_and(|known| known.target.digest == record.target.digest)
            }
            None => !self.images.names_of(record.id())?.is_empty(),
        })
    }

    /// Fetches the small documents and compares what they name with what is here.
    fn plan_pull(&self, origin: &Origin, platform: &Platform) -> Result<PullPlan> {
        let (target, bytes) = origin.root()?;
        self.content.put(&bytes)?;
        let (descriptor, bytes) = match Document::parse(&target.media_type, &bytes)? {
            Document::Manifest(_) => (target.clone(), bytes),
            Document::Index(index) => {
                let entry = choose(&index, platform)?;
                let bytes = origin.manifest(entry)?;
                self.content.put(&bytes)?;
                (Descriptor { platform: None, annotations: None, ..entry.clone() }, bytes)
            }
        };
        let Document::Manifest(manifest) = Document::parse(&descriptor.media_type, &bytes)? else {
            return Err(Error::refused("the index names another index, expected a manifest", ""));
        };
        check_media_types(&manifest)?;
        self.fetch(origin, &manifest.config, &|_| {})?;
        let image = Image::load(&self.content, &descriptor)?;
        let layers = self.missing_layers(&image)?;
        Ok(PullPlan { target, image, layers })
    }

    fn missing_layers(&self, image: &Image) -> Result<Vec<MissingLayer>> {
        let mut missing = Vec::new();
        for (position, layer) in image.layers().into_iter().enumerate() {
            let is_here = self.has_layer(&layer.descriptor.digest, layer.diff_id)?;
            if !is_here || !self.snapshots.contains(&layer.chain_id)? {
                let (descriptor, diff_id) = (layer.descriptor.clone(), layer.diff_id.clone());
                missing.push(MissingLayer { position, descriptor, diff_id });
            }
        }
        Ok(missing)
    }

    /// Fetches and unpacks on a few threads, each taking the next layer. The first error ends all.
    fn fetch_layers(
        &self,
        origin: &Origin,
        layers: &[MissingLayer],
        observer: Observer<'_>,
    ) -> Result<Vec<(usize, Unpacked)>> {
        let queue = Mutex::new(layers.iter().collect::<VecDeque<_>>());
        let results = Mutex::new(Vec::new());
        let next = || queue.lock().expect("no thread panics with the lock").pop_front();
        let work = || {
            while let Some(layer) = next() {
                let result = self.fetch_layer(origin, layer, observer);
                if result.is_err() {
                    queue.lock().expect("no thread panics with the lock").clear();
                }
                results.lock().expect("no thread panics with the lock").push((layer.position, result));
            }
        };
        let threads = self.environment.settings.registries.parallel_layers.clamp(1, 16).min(layers.len());
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        let results = results.into_inner().expect("no thread panics with the lock");
        let number = |position| format!("layer {} of {}", position + 1, layers.len());
        results
            .into_iter()
            .map(|(position, result)| Ok((position, result.operation("get", number(position))?)))
            .collect()
    }

    /// Puts unpacked layers on each other in their order, then makes all of it durable.
    pub(crate) fn stack_layers(&self, image: &Image, mut unpacked: Vec<(usize, Unpacked)>) -> Result<()> {
        unpacked.sort_by_key(|(position, _)| *position);
        let layers = image.layers();
        for (position, layer) in unpacked {
            let parent = position.checked_sub(1).map(|below| &layers[below].chain_id);
            self.snapshots.stack(layer, parent, &layers[position].chain_id)?;
        }
        match image.chain_id() {
            Some(top) => Ok(self.snapshots.seal(&top)?),
            None => Ok(()),
        }
    }

    /// What the layers hold on disk, in bytes: what `images` shows as the size.
    pub(crate) fn unpacked_bytes(&self, image: &Image) -> Result<u64> {
        let mut size_bytes = 0;
        for layer in image.layers() {
            size_bytes += self.usage_of(&layer.chain_id)?.size_bytes;
        }
        Ok(size_bytes)
    }
}

/// Refuses before anything large is fetched what could not be run anyway.
fn check_media_types(manifest: &carrack_oci::Manifest) -> Result<()> {
    if !media_type::is_config(&manifest.config.media_type) {
        let kind = manifest.artifact_type.as_ref().unwrap_or(&manifest.config.media_type);
        let message =
            format!("unsupported media type {kind:?} of the config: expected an image, got an artifact");
        return Err(Error::refused(message, ""));
    }
    match manifest.layers.iter().find(|layer| !media_type::is_layer(&layer.media_type)) {
        None => Ok(()),
        Some(layer) => Err(Error::refused(
            format!("unsupported media type {:?} of layer {}", layer.media_type, layer.digest),
            "carrack reads tar layers, plain or compressed by gzip or zstd",
        )),
    }
}
