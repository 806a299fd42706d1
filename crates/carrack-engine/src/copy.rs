//! Copy: an image goes from one place to another, byte by byte, without being unpacked.
//!
//! Nothing is changed on the way, so every digest stays. What leaves the store is a push, what enters it a pull.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use carrack_image::transport::Location;
use carrack_oci::{Descriptor, Digest, Document, Index, Platform, Reference};

use crate::error::OperationContext;
use crate::event::{Event, Observer, Phase};
use crate::layers::{LayerBytes, LayerFinder};
use crate::origin::Origin;
use crate::push::{PushOptions, without_doubles};
use crate::transfer::{PlannedBlob, Supply, Target, Transfer, TransferPlan};
use crate::{Engine, Error, Result};

/// How deep indexes may lie in indexes.
const MAX_DEPTH: usize = 4;
/// Manifests are held in memory until all blobs are sent.
const MAX_DOCUMENTS_BYTES: usize = 64 << 20;

/// A place that has images: a registry, layout or archive, or the store of this machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// `store:NAME`, also spelt `containers-storage:NAME`; a name or an ID.
    Store(String),
    /// Any other.
    Location(Location),
}

impl FromStr for Place {
    type Err = carrack_image::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match ["store:", "containers-storage:"].iter().find_map(|prefix| text.strip_prefix(prefix)) {
            Some("") => Err(carrack_image::Error::Location {
                text: text.to_owned(),
                reason: "expected the name or ID of an image after the colon".to_owned(),
            }),
            Some(name) => Ok(Self::Store(name.to_owned())),
            None => text.parse().map(Self::Location),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(name) => write!(formatter, "store:{name}"),
            Self::Location(location) => location.fmt(formatter),
        }
    }
}

/// What is copied of an index, and how.
#[derive(Clone, Debug, Default)]
pub struct CopyOptions {
    /// The index itself with every image that it names; else the image of one platform.
    pub is_all: bool,
    /// Which one; this machine's where it is `None`.
    pub platform: Option<Platform>,
    /// Refuses to compress a layer of the store anew whose bytes cannot be had any more.
    pub preserve_digests: bool,
}

impl Engine {
    /// Copies an image; returns the digest of what has been named at the destination.
    ///
    /// Cut short, it leaves nothing that is named. Blobs that the destination has are not sent again.
    pub fn copy(
        &self,
        source: &Place,
        destination: &Place,
        options: &CopyOptions,
        observer: Observer<'_>,
    ) -> Result<Digest> {
        let copied = match (source, destination) {
            (Place::Location(source), Place::Location(destination)) => {
                self.copy_between(source, destination, options, observer)
            }
            (Place::Store(name), Place::Location(destination)) => {
                self.copy_out(name, destination, options, observer)
            }
            (Place::Location(source), Place::Store(name)) => self.copy_in(source, name, options, observer),
            (Place::Store(_), Place::Store(_)) => {
                Err(Error::refused("both places are the store", "give the image a further name: carrack tag"))
            }
        };
        copied.operation("copy", format_args!("{source} to {destination}"))
    }

    fn copy_between(
        &self,
        source: &Location,
        destination: &Location,
        options: &CopyOptions,
        observer: Observer<'_>,
    ) -> Result<Digest> {
        // What a stream or a compressed archive holds passes through the store.
        let _operation = self.operation()?;
        let origin = Origin::open(self, source)?;
        let documents = Documents::select(&origin, options)?;
        documents.refuse_several(destination)?;
        let from_origin = |descriptor| PlannedBlob { descriptor, supply: Supply::Origin };
        let plan = TransferPlan {
            blobs: without_doubles(documents.blobs()?.into_iter().map(from_origin)),
            documents: documents.0,
            names: origin.name().into_iter().collect(),
        };
        let target = Target::open(self, destination)?;
        let finder = LayerFinder::new(self);
        Transfer { engine: self, finder: &finder, origin: Some(&origin), observer }.run(&plan, target)
    }

    fn copy_out(
        &self,
        name: &str,
        destination: &Location,
        options: &CopyOptions,
        observer: Observer<'_>,
    ) -> Result<Digest> {
        let _operation = self.operation()?;
        let record = self.images.find(name)?.record;
        if !options.is_all || record.target.digest == record.manifest.digest {
            let is_other = |platform: &Platform| platform.distance(&record.platform).is_none();
            if let Some(platform) = options.platform.as_ref().filter(|platform| is_other(platform)) {
                let message = format!("no image for {platform}: the store has it for {}", record.platform);
                return Err(Error::refused(message, "copy from the registry that it came from"));
            }
            let preserve_digests = options.preserve_digests;
            let options = PushOptions { preserve_digests, ..PushOptions::default() };
            return self.push_found(name, destination, &options, observer);
        }
        let documents = Documents::of(&record.target, &|document| Ok(self.content.read(&document.digest)?));
        let documents = documents.map_err(|error| match error {
            Error::Content(carrack_content::Error::NotFound { digest }) => Error::refused(
                format!("the store has not every image of the index: {digest} is missing"),
                "copy from the registry that it came from, or first into the store with --all",
            ),
            other => other,
        })?;
        documents.refuse_several(destination)?;
        let target = Target::open(self, destination)?;
        let finder = LayerFinder::new(self);
        let mut blobs = Vec::new();
        for descriptor in documents.blobs()? {
            let supply = self.supply_unchanged(&descriptor, &target, &finder)?;
            blobs.push(PlannedBlob { descriptor, supply });
        }
        let plan = TransferPlan {
            blobs: without_doubles(blobs.into_iter()),
            documents: documents.0,
            names: record.reference.into_iter().collect(),
        };
        Transfer { engine: self, finder: &finder, origin: None, observer }.run(&plan, target)
    }

    /// Where the bytes of a blob come from that must not change, since an index names its image by digest.
    pub(crate) fn supply_unchanged(
        &self,
        blob: &Descriptor,
        target: &Target,
        finder: &LayerFinder<'_>,
    ) -> Result<Supply> {
        if let Some(bytes) = finder.find_here(blob)? {
            return Ok(Supply::Stored(bytes));
        }
        if target.has(blob)? {
            return Ok(Supply::There);
        }
        let bytes: Option<LayerBytes> = finder.find_elsewhere(blob)?;
        bytes.map(Supply::Stored).ok_or_else(|| {
            let digest = &blob.digest;
            Error::refused(
                format!("the bytes of {digest} are neither kept here nor in any repository that had them"),
                "copy the image of one platform: without --all a layer can be compressed anew",
            )
        })
    }

    fn copy_in(
        &self,
        source: &Location,
        name: &str,
        options: &CopyOptions,
        observer: Observer<'_>,
    ) -> Result<Digest> {
        let reference: Reference = name.parse()?;
        if reference.digest().is_some() {
            return Err(Error::refused(format!("expected a name with a tag, got {name}"), ""));
        }
        let operation = self.operation()?;
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let copied = Origin::open(self, source).and_then(|origin| {
            if options.is_all {
                self.fetch_others(&origin, &platform, observer)?;
            }
            let pulled = self.pull_as(&origin, Some(reference.or_latest()), &platform, observer)?;
            Ok(if options.is_all { pulled.record.target.digest } else { pulled.record.manifest.digest })
        });
        // Collection needs the lock alone.
        drop(operation);
        self.clear_after_refusal(copied)
    }

    /// Brings the images of other platforms than `platform` into the content store: documents and compressed layers,
    /// which nothing here unpacks.
    fn fetch_others(&self, origin: &Origin, platform: &Platform, observer: Observer<'_>) -> Result<()> {
        let is_all = CopyOptions { is_all: true, ..CopyOptions::default() };
        let mut documents = Documents::select(origin, &is_all)?;
        if let Some(Document::Index(index)) = documents.root()?
            && let Some(own) = index.choose(platform)
        {
            documents.0.retain(|(document, _)| document.digest != own.digest);
        }
        for (document, bytes) in &documents.0 {
            let digest = self.content.put(bytes)?;
            if digest != document.digest {
                let message =
                    format!("unsupported digest {} of a manifest: expected sha256", document.digest);
                return Err(Error::refused(message, ""));
            }
        }
        for blob in documents.blobs()? {
            let tell = |phase| observer(Event::Blob { digest: &blob.digest, phase });
            let had =
                self.fetch(origin, &blob, &|done| tell(Phase::Transferring { done, total: blob.size }))?;
            tell(if had { Phase::Exists } else { Phase::Complete });
        }
        Ok(())
    }
}

/// Manifests and indexes, each after those that it names: what is to be copied, as data.
#[derive(Debug, Default)]
struct Documents(Vec<(Descriptor, Vec<u8>)>);

impl Documents {
    /// What `options` mean of the image or index at `origin`.
    fn select(origin: &Origin, options: &CopyOptions) -> Result<Self> {
        let (root, bytes) = origin.root()?;
        if options.is_all {
            let read = |document: &Descriptor| match document.digest == root.digest {
                true => Ok(bytes.clone()),
                false => origin.manifest(document),
            };
            return Self::of(&root, &read);
        }
        match Document::parse(&root.media_type, &bytes)? {
            Document::Manifest(_) => Ok(Self(vec![(root, bytes)])),
            Document::Index(index) => {
                let platform = options.platform.clone().unwrap_or_else(Platform::host);
                let entry = choose(&index, &platform)?;
                let bytes = origin.manifest(entry)?;
                Ok(Self(vec![(Descriptor { platform: None, annotations: None, ..entry.clone() }, bytes)]))
            }
        }
    }

    /// `root` and all that it names.
    fn of(root: &Descriptor, read: &dyn Fn(&Descriptor) -> Result<Vec<u8>>) -> Result<Self> {
        let mut documents = Self::default();
        documents.add(root, read, (MAX_DEPTH, &mut HashSet::new()))?;
        Ok(documents)
    }

    fn add(
        &mut self,
        document: &Descriptor,
        read: &dyn Fn(&Descriptor) -> Result<Vec<u8>>,
        (depth, seen): (usize, &mut HashSet<Digest>),
    ) -> Result<()> {
        if !seen.insert(document.digest.clone()) {
            return Ok(());
        }
        let bytes = read(document)?;
        if let Document::Index(index) = Document::parse(&document.media_type, &bytes)? {
            if depth == 0 {
                let message = format!("indexes lie more than {MAX_DEPTH} deep in each other");
                return Err(Error::refused(message, ""));
            }
            for entry in &index.manifests {
                self.add(entry, read, (depth - 1, &mut *seen))?;
            }
        }
        let bare = Descriptor { platform: None, annotations: None, urls: None, ..document.clone() };
        self.0.push((bare, bytes));
        match self.0.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > MAX_DOCUMENTS_BYTES {
            true => {
                Err(Error::refused(format!("expected at most {MAX_DOCUMENTS_BYTES} bytes of manifests"), ""))
            }
            false => Ok(()),
        }
    }

    /// Docker's archive has no place for an index.
    fn refuse_several(&self, destination: &Location) -> Result<()> {
        match destination {
            Location::DockerArchive { .. } if self.0.len() > 1 => Err(Error::refused(
                "a Docker archive holds images of one platform, expected a place for an index",
                "choose one with --platform, or copy to an oci-archive:",
            )),
            _ => Ok(()),
        }
    }

    fn root(&self) -> Result<Option<Document>> {
        let Some((root, bytes)) = self.0.last() else { return Ok(None) };
        Ok(Some(Document::parse(&root.media_type, bytes)?))
    }

    /// Configs and layers of all manifests.
    fn blobs(&self) -> Result<Vec<Descriptor>> {
        let mut blobs = Vec::new();
        for (document, bytes) in &self.0 {
            if let Document::Manifest(manifest) = Document::parse(&document.media_type, bytes)? {
                blobs.extend(manifest.layers);
                blobs.push(manifest.config);
            }
        }
        Ok(blobs)
    }
}

/// The image of an index that runs on `platform`.
pub(crate) fn choose<'index>(index: &'index Index, platform: &Platform) -> Result<&'index Descriptor> {
    index.choose(platform).ok_or_else(|| {
        let offered = index.platforms().join(", ");
        let message = format!("no image for {platform}: the index has {offered}");
        Error::refused(message, "choose one with --platform")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (text, store) in [("store:app:1", "app:1"), ("containers-storage:localhost/app", "localhost/app")]
        {
            assert_eq!(text.parse::<Place>().unwrap(), Place::Store(store.to_owned()));
        }
        assert!(matches!("app:1".parse(), Ok(Place::Location(Location::Registry(_)))));
        assert!(matches!("oci:folder:1".parse(), Ok(Place::Location(Location::OciLayout { .. }))));
        assert!("store:".parse::<Place>().is_err());
    }
}
