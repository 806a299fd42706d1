//! Sending what a plan names to a registry, layout or archive: blobs first, several at once where the place takes
//! them, then manifests, children first, the name last.
//!
//! Invariant: nothing that is incomplete is named at the destination, and a blob that it has is not sent. So a transfer
//! that was cut short is done again, and only the blobs that were on their way are sent again.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::Scope;

use carrack_distribution::{Client, Pushed};
use carrack_image::Image;
use carrack_image::transport::{Destination, Location, Root};
use carrack_oci::{Descriptor, Digest, Reference, Repository};

use crate::error::OperationContext;
use crate::event::{Event, Observer, Phase};
use crate::layers::{FromStart, LayerBytes, LayerFinder};
use crate::origin::Origin;
use crate::stream::BlobReader;
use crate::{Engine, Result};

/// Where the bytes of a blob come from.
#[derive(Debug)]
pub(crate) enum Supply {
    /// Nowhere: the destination has it.
    There,
    /// The store, or where it had them from.
    Stored(LayerBytes),
    /// A file that was made for this transfer.
    Made(Arc<File>),
    /// The place that the image is copied from.
    Origin,
}

/// A blob that the destination needs.
#[derive(Debug)]
pub(crate) struct PlannedBlob {
    pub descriptor: Descriptor,
    pub supply: Supply,
}

/// All that is sent.
#[derive(Debug, Default)]
pub(crate) struct TransferPlan {
    /// Configs and layers.
    pub blobs: Vec<PlannedBlob>,
    /// Manifests and indexes, each after those that it names; the last one gets the name.
    pub documents: Vec<(Descriptor, Vec<u8>)>,
    /// What the image is called in a layout or archive whose location does not say.
    pub names: Vec<Reference>,
}

/// An opened place that takes an image.
pub(crate) enum Target {
    Registry { client: Box<Client>, reference: Reference },
    Local(Mutex<Box<dyn Destination>>),
}

impl Target {
    pub fn open(engine: &Engine, location: &Location) -> Result<Self> {
        Ok(match location {
            Location::Registry(reference) => {
                let place = engine.push_place(&reference.clone().or_latest())?;
                Self::Registry { reference: place.reference.clone(), client: Box::new(place.into_client()?) }
            }
            local => Self::Local(Mutex::new(local.destination()?)),
        })
    }

    /// The repository, where it is one of a registry.
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Registry { reference, .. } => Some(reference.repository()),
            Self::Local(_) => None,
        }
    }

    /// Whether a blob needs not be sent.
    pub fn has(&self, blob: &Descriptor) -> Result<bool> {
        Ok(match self {
            Self::Registry { client, reference } => client.blob_exists(reference.repository(), blob)?,
            Self::Local(destination) => {
                destination.lock().expect("no thread panics with the lock").has_blob(blob)?
            }
        })
    }
}

/// One transfer.
pub(crate) struct Transfer<'a> {
    pub engine: &'a Engine,
    pub finder: &'a LayerFinder<'a>,
    /// Where [`Supply::Origin`] leads.
    pub origin: Option<&'a Origin>,
    pub observer: Observer<'a>,
}

impl Transfer<'_> {
    /// Carries the plan out; returns the digest of its last document.
    pub fn run(&self, plan: &TransferPlan, target: Target) -> Result<Digest> {
        self.blobs(&plan.blobs, &target)?;
        let (root, _) = plan.documents.last().expect("a plan has a document");
        match target {
            Target::Registry { client, reference } => {
                for (document, bytes) in &plan.documents {
                    let is_root = document.digest == root.digest;
                    let key = if is_root { reference.manifest_key() } else { document.digest.as_str() };
                    client.put_manifest(reference.repository(), key, &document.media_type, bytes)?;
                }
            }
            Target::Local(destination) => {
                let mut destination = destination.into_inner().expect("no thread panics with the lock");
                for (document, bytes) in &plan.documents {
                    destination.put_manifest(document, bytes)?;
                }
                destination.finish(&[Root { descriptor: root.clone(), names: plan.names.clone() }])?;
            }
        }
        Ok(root.digest.clone())
    }

    fn blobs(&self, blobs: &[PlannedBlob], target: &Target) -> Result<()> {
        for blob in blobs {
            self.tell(blob, Phase::Waiting);
        }
        let queue = Mutex::new(blobs.iter().collect::<VecDeque<_>>());
        let next = || queue.lock().expect("no thread panics with the lock").pop_front();
        let work = || {
            while let Some(blob) = next() {
                let sent = self.blob(blob, target);
                sent.operation("send", &blob.descriptor.digest).inspect_err(|_| {
                    queue.lock().expect("no thread panics with the lock").clear();
                })?;
            }
            Ok(())
        };
        let threads = match target {
            Target::Registry { .. } => self.engine.environment.settings.registries.parallel_layers,
            // A folder or archive takes one blob after the other.
            Target::Local(_) => 1,
        };
        std::thread::scope(|scope| {
            let others: Vec<_> =
                (1..threads.clamp(1, 16).min(blobs.len().max(1))).map(|_| scope.spawn(work)).collect();
            let own = work();
            others
                .into_iter()
                .map(|other| other.join().expect("transfers do not panic"))
                .fold(own, Result::and)
        })
    }

    fn blob(&self, blob: &PlannedBlob, target: &Target) -> Result<()> {
        let descriptor = &blob.descriptor;
        if matches!(blob.supply, Supply::There) || target.has(descriptor)? {
            self.tell(blob, Phase::Exists);
            return Ok(());
        }
        let (client, repository) = match target {
            Target::Registry { client, reference } => (client, reference.repository()),
            Target::Local(destination) => return self.put(blob, destination),
        };
        for from in self.repositories_with(blob, repository)? {
            match client.mount_blob(repository, &descriptor.digest, &from) {
                Ok(true) => {
                    self.tell(blob, Phase::Mounted);
                    return Ok(());
                }
                Ok(false) => {}
                // The account may have no right to read there; sending the bytes needs none.
                Err(error) => tracing::info!(%error, %from, "cannot mount a blob"),
            }
        }
        let progress = |done| self.tell(blob, Phase::Transferring { done, total: descriptor.size });
        let pushed = std::thread::scope(|scope| {
            let open = || self.open(scope, blob).map_err(io::Error::other);
            client.push_blob(repository, descriptor, &open, &progress)
        })?;
        self.tell(blob, if pushed == Pushed::Exists { Phase::Exists } else { Phase::Pushed });
        Ok(())
    }

    fn put(&self, blob: &PlannedBlob, destination: &Mutex<Box<dyn Destination>>) -> Result<()> {
        let total = blob.descriptor.size;
        self.tell(blob, Phase::Transferring { done: 0, total });
        let mut destination = destination.lock().expect("no thread panics with the lock");
        std::thread::scope(|scope| {
            let mut reader = self.open(scope, blob)?;
            destination.put_blob(&blob.descriptor, &mut reader)?;
            Ok::<_, crate::Error>(())
        })?;
        self.tell(blob, Phase::Complete);
        Ok(())
    }

    fn open<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        blob: &'scope PlannedBlob,
    ) -> Result<BlobReader> {
        match (&blob.supply, self.origin) {
            (Supply::Stored(bytes), _) => self.finder.open(scope, &blob.descriptor, bytes),
            (Supply::Made(file), _) => Ok(Box::new(FromStart { file: Arc::clone(file), position: 0 })),
            (Supply::Origin, Some(origin)) => origin.open_blob(scope, &blob.descriptor),
            (Supply::There | Supply::Origin, _) => unreachable!("the plan has no bytes for what is not sent"),
        }
    }

    /// Other repositories of the destination's registry that have the blob, as far as this machine knows, so that the
    /// registry can link it instead of receiving it again; at most a few, each is a request.
    fn repositories_with(&self, blob: &PlannedBlob, destination: &Repository) -> Result<Vec<Repository>> {
        const MAX_CANDIDATES: usize = 3;
        let mut known: Vec<Repository> =
            self.origin.and_then(Origin::repository).cloned().into_iter().collect();
        if let Supply::Stored(LayerBytes::Repository(from)) = &blob.supply {
            known.push(from.clone());
        }
        let blob = &blob.descriptor;
        known.extend(
            self.engine.origins.get(&blob.digest)?.into_iter().flat_map(|origin| origin.repositories),
        );
        let is_here = |repository: &Repository| {
            repository.registry() == destination.registry() && repository != destination
        };
        for record in self.engine.images.list()? {
            let Some(reference) = &record.reference else { continue };
            if is_here(reference.repository()) && !known.contains(reference.repository()) {
                let image = Image::load(&self.engine.content, &record.manifest)?;
                if image.blobs().any(|other| other.digest == blob.digest) {
                    known.push(reference.repository().clone());
                }
            }
        }
        let mut candidates = Vec::new();
        for repository in known.into_iter().filter(is_here) {
            if candidates.len() < MAX_CANDIDATES && !candidates.contains(&repository) {
                candidates.push(repository);
            }
        }
        Ok(candidates)
    }

    fn tell(&self, blob: &PlannedBlob, phase: Phase) {
        (self.observer)(Event::Blob { digest: &blob.descriptor.digest, phase });
    }
}
