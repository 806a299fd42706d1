//! Manifest lists that are made here: created, filled with images of this machine and of registries, changed, pushed.
//!
//! A list remembers of each entry where its content is. Of an image in a registry only the manifest is fetched when
//! it is added; its blobs go from registry to registry when the list is pushed.

use std::collections::BTreeMap;

use carrack_image::transport::Location;
use carrack_image::{Image, ListSource, ManifestList};
use carrack_oci::{Descriptor, Digest, Document, Index, Manifest, Platform, Reference, media_type};

use crate::error::OperationContext;
use crate::event::Observer;
use crate::layers::{LayerBytes, LayerFinder};
use crate::origin::Origin;
use crate::push::without_doubles;
use crate::transfer::{PlannedBlob, Supply, Target, Transfer, TransferPlan};
use crate::{Engine, Error, Result};

/// How images are added to a list.
#[derive(Clone, Debug, Default)]
pub struct AddOptions {
    /// Every image of an index, not only the one for this machine.
    pub all: bool,
    /// What the entry says beside what the image does.
    pub change: EntryChange,
}

/// What is to be different in an entry; `None` and empty lists change nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryChange {
    /// The CPU architecture.
    pub architecture: Option<String>,
    /// The operating system.
    pub os: Option<String>,
    /// The version of the operating system.
    pub os_version: Option<String>,
    /// The variant of the CPU.
    pub variant: Option<String>,
    /// What the CPU must be able to do.
    pub features: Vec<String>,
    /// What the operating system must be able to do.
    pub os_features: Vec<String>,
    /// Annotations that are set.
    pub annotations: BTreeMap<String, String>,
}

/// How a list is pushed.
#[derive(Clone, Debug, Default)]
pub struct PushListOptions {
    /// Also the images that the list names; without them the registry must have them already.
    pub all: bool,
    /// Deletes the list here once it is pushed.
    pub purge: bool,
    /// The media type of the list, when it is to be another than its own.
    pub media_type: Option<&'static str>,
}

impl EntryChange {
    fn apply(&self, entry: &mut Descriptor) {
        let EntryChange { architecture, os, os_version, variant, features, os_features, annotations } = self;
        let says_platform = [architecture, os, os_version, variant].iter().any(|text| text.is_some())
            || !(features.is_empty() && os_features.is_empty());
        if says_platform {
            let platform = entry.platform.get_or_insert_with(Platform::host);
            platform.architecture = architecture.clone().unwrap_or(platform.architecture.clone());
            platform.os = os.clone().unwrap_or(platform.os.clone());
            platform.os_version = os_version.clone().or(platform.os_version.take());
            platform.variant = variant.clone().or(platform.variant.take());
            if !features.is_empty() {
                platform.features = Some(features.clone());
            }
            if !os_features.is_empty() {
                platform.os_features = Some(os_features.clone());
            }
        }
        if !annotations.is_empty() {
            entry.annotations.get_or_insert_default().extend(annotations.clone());
        }
    }
}

impl Engine {
    /// Makes a list with `images` in it. One that exists is an error, unless `amend` has it added to.
    pub fn create_list(
        &self,
        name: &str,
        images: &[String],
        (amend, options): (bool, &AddOptions),
        observer: Observer<'_>,
    ) -> Result<ManifestList> {
        let create = || {
            let _operation = self.operation()?;
            let reference = list_name(name)?;
            let entries = self.entries_of(images, options, observer)?;
            self.lists.change(&reference, |known| {
                if known.is_some() && !amend {
                    let hint = "add to it with --amend, or remove it: carrack manifest rm";
                    return Err(Error::refused("it exists already", hint));
                }
                let mut list = known.unwrap_or_else(|| ManifestList::new(reference.clone()));
                list.index.annotations.get_or_insert_default().extend(options.change.annotations.clone());
                list.index.annotations = list.index.annotations.filter(|annotations| !annotations.is_empty());
                put_all(&mut list, entries);
                Ok(list)
            })
        };
        create().operation("create the list", name)
    }

    /// Adds images to a list: of this machine, or else of a registry.
    pub fn add_to_list(
        &self,
        name: &str,
        images: &[String],
        options: &AddOptions,
        observer: Observer<'_>,
    ) -> Result<ManifestList> {
        let add = || {
            let _operation = self.operation()?;
            self.find_list(name)?;
            let mut entries = self.entries_of(images, options, observer)?;
            for (entry, _) in &mut entries {
                options.change.apply(entry);
            }
            self.change_list(name, |list| {
                put_all(list, entries);
                Ok(())
            })
        };
        add().operation("add to the list", name)
    }

    /// Changes what a list says of one of its images, which is named by digest, or as it was when it was added.
    pub fn annotate_list(&self, name: &str, image: &str, change: &EntryChange) -> Result<ManifestList> {
        let digest = self.entry_digest(name, image).operation("annotate the list", name)?;
        let annotate = |list: &mut ManifestList| {
            let entry = list.index.manifests.iter_mut().find(|entry| entry.digest == digest);
            change.apply(entry.ok_or_else(|| no_entry(image))?);
            Ok(())
        };
        self.change_list(name, annotate).operation("annotate the list", name)
    }

    /// Sets annotations of a list itself.
    pub fn annotate_index(&self, name: &str, annotations: &BTreeMap<String, String>) -> Result<ManifestList> {
        let annotate = |list: &mut ManifestList| {
            list.index.annotations.get_or_insert_default().extend(annotations.clone());
            Ok(())
        };
        self.change_list(name, annotate).operation("annotate the list", name)
    }

    /// Takes an image from a list.
    pub fn remove_from_list(&self, name: &str, image: &str) -> Result<ManifestList> {
        let digest = self.entry_digest(name, image).operation("remove from the list", name)?;
        let remove = |list: &mut ManifestList| match list.take(&digest) {
            true => Ok(()),
            false => Err(no_entry(image)),
        };
        let list = self.change_list(name, remove).operation("remove from the list", name)?;
        self.collect_garbage()?;
        Ok(list)
    }

    /// Deletes a list; images that are here for its sake only go with it.
    pub fn remove_list(&self, name: &str) -> Result<ManifestList> {
        let list = self.find_list(name).operation("remove the list", name)?;
        self.lists.delete(&list.reference)?;
        self.collect_garbage()?;
        Ok(list)
    }

    /// Every list, by name.
    pub fn manifest_lists(&self) -> Result<Vec<ManifestList>> {
        Ok(self.lists.list()?)
    }

    /// Whether there is a list of this name.
    pub fn has_list(&self, name: &str) -> Result<bool> {
        Ok(self.lists.get(&list_name(name)?)?.is_some())
    }

    /// The exact bytes of the list, index or manifest that `name` names: a list that was made here, what an image
    /// of this machine was pulled as, or what a registry has, which is shown without being pulled.
    pub fn manifest_bytes(&self, name: &str) -> Result<Vec<u8>> {
        let remote = |text: &str| -> Result<Vec<u8>> {
            let location: Location = text.parse()?;
            Ok(Origin::open(self, &location)?.root()?.1)
        };
        if name.contains("://") {
            return remote(name).operation("inspect the manifest of", name);
        }
        if let Ok(reference) = list_name(name)
            && let Some(list) = self.lists.get(&reference)?
        {
            return Ok(list.document());
        }
        let here = match self.images.find_record(name) {
            Err(carrack_image::Error::NotFound { .. }) => None,
            found => Some(found?.0),
        };
        match here {
            Some(record) if self.content.size(&record.target.digest)?.is_some() => {
                Ok(self.content.read(&record.target.digest)?)
            }
            _ => remote(name).operation("inspect the manifest of", name),
        }
    }

    /// Pushes a list to `destination`; returns its digest there, which is that of the bytes that `manifest inspect`
    /// shows. The digests of its images are kept.
    pub fn push_list(
        &self,
        name: &str,
        destination: &Location,
        options: &PushListOptions,
        observer: Observer<'_>,
    ) -> Result<Digest> {
        let push = || -> Result<ManifestList> {
            let _operation = self.operation()?;
            let mut list = self.find_list(name)?;
            if let Some(media_type) = options.media_type {
                list.index.media_type = Some(media_type.to_owned());
            }
            let target = Target::open(self, destination)?;
            let finder = LayerFinder::new(self);
            let is_whole = options.all || target.repository().is_none();
            let plan = self.plan_list(&list, is_whole, &target, &finder)?;
            Transfer { engine: self, finder: &finder, origin: None, observer }.run(&plan, target)?;
            Ok(list)
        };
        let list = push().operation("push the list", name)?;
        if options.purge {
            self.lists.delete(&list.reference)?;
        }
        // Blobs that went through this machine are of no more use here.
        self.collect_garbage()?;
        Ok(list.descriptor().digest)
    }

    /// What is sent of a list: the images that it names when `is_whole`, and the list itself.
    fn plan_list(
        &self,
        list: &ManifestList,
        is_whole: bool,
        target: &Target,
        finder: &LayerFinder<'_>,
    ) -> Result<TransferPlan> {
        let mut plan = TransferPlan { names: vec![list.reference.clone()], ..TransferPlan::default() };
        let entries = if is_whole { &list.index.manifests[..] } else { &[] };
        for entry in entries {
            let bytes = self.content.read(&entry.digest)?;
            for descriptor in blobs_of(entry, &bytes)? {
                let supply = match list.sources.get(&entry.digest) {
                    Some(ListSource::Registry(from)) => {
                        Supply::Stored(LayerBytes::Repository(from.repository().clone()))
                    }
                    _ => self.supply_unchanged(&descriptor, target, finder)?,
                };
                plan.blobs.push(PlannedBlob { descriptor, supply });
            }
            plan.documents.push((bare(entry), bytes));
        }
        plan.documents.push((list.descriptor(), list.document()));
        plan.blobs = without_doubles(plan.blobs.into_iter());
        Ok(plan)
    }

    /// The entries that `images` become.
    fn entries_of(
        &self,
        images: &[String],
        options: &AddOptions,
        observer: Observer<'_>,
    ) -> Result<Vec<(Descriptor, ListSource)>> {
        let mut entries = Vec::new();
        for image in images {
            let found = match image.contains("://") {
                true => None,
                false => match self.images.find_record(image) {
                    Err(carrack_image::Error::NotFound { .. }) => None,
                    found => Some(found?.0),
                },
            };
            match found {
                Some(record) if !(options.all && record.target != record.manifest) => {
                    let image = self.as_pushed(&record, observer)?;
                    entries.push((entry_of(&image), ListSource::Local));
                }
                // Of an index only the image for one platform is here.
                _ => entries.extend(self.remote_entries(image, options.all)?),
            }
        }
        Ok(entries)
    }

    fn remote_entries(&self, image: &str, all: bool) -> Result<Vec<(Descriptor, ListSource)>> {
        let location: Location = image.parse()?;
        let Location::Registry(reference) = &location else {
            let hint = "pull it first, then add it by its name";
            return Err(Error::refused(format!("cannot add {location}: expected a registry"), hint));
        };
        let origin = Origin::open(self, &location)?;
        let (target, bytes) = origin.root().operation("look up", image)?;
        let children = match Document::parse(&target.media_type, &bytes)? {
            Document::Manifest(manifest) => {
                self.content.put(&bytes)?;
                let platform = self.platform_of(reference, &manifest)?;
                vec![Descriptor { platform, ..target }]
            }
            Document::Index(index) if all => index.manifests,
            Document::Index(index) => vec![chosen(&index)?.clone()],
        };
        for child in &children {
            let bytes = origin.manifest(child)?;
            self.content.put(&bytes)?;
        }
        Ok(children.into_iter().map(|child| (child, ListSource::Registry(reference.clone()))).collect())
    }

    /// What an image of a registry runs on; `None` when it is no image.
    fn platform_of(&self, reference: &Reference, manifest: &Manifest) -> Result<Option<Platform>> {
        if !media_type::is_config(&manifest.config.media_type) {
            return Ok(None);
        }
        let client = self.client_of_registry(reference.repository().registry())?;
        let bytes = client.fetch_document(reference.repository(), &manifest.config)?;
        let config = carrack_oci::ImageConfig::parse(&bytes, manifest)?;
        Ok(Some(platform_in(&config)))
    }

    fn find_list(&self, name: &str) -> Result<ManifestList> {
        let found = self.lists.get(&list_name(name)?)?;
        found.ok_or_else(|| {
            Error::refused("there is no such list", format!("create it: carrack manifest create {name}"))
        })
    }

    fn change_list(
        &self,
        name: &str,
        change: impl FnOnce(&mut ManifestList) -> Result<()>,
    ) -> Result<ManifestList> {
        let known = self.find_list(name)?;
        self.lists.change(&known.reference, |list| {
            let mut list = list.unwrap_or(known.clone());
            change(&mut list)?;
            Ok(list)
        })
    }

    /// The entry that is meant by its digest, by the image's name or ID here, or by the reference it was added as.
    fn entry_digest(&self, name: &str, image: &str) -> Result<Digest> {
        let list = self.find_list(name)?;
        let has = |digest: &Digest| list.sources.contains_key(digest);
        let reference: Option<Reference> =
            image.strip_prefix("docker://").unwrap_or(image).parse().ok().map(Reference::or_latest);
        let named = image.parse().ok().or_else(|| reference.as_ref()?.digest().cloned());
        if let Some(digest) = named.filter(has) {
            return Ok(digest);
        }
        if let Ok((record, _)) = self.images.find_record(image)
            && has(&record.manifest.digest)
        {
            return Ok(record.manifest.digest);
        }
        let is_from = |source: &ListSource| match source {
            ListSource::Registry(from) => Some(from) == reference.as_ref(),
            ListSource::Local => false,
        };
        let mut from = list.sources.iter().filter(|(_, source)| is_from(source));
        match (from.next(), from.next()) {
            (Some((digest, _)), None) => Ok(digest.clone()),
            (Some(_), Some(_)) => {
                let message = format!("{image} has several entries in the list: expected a digest");
                Err(Error::refused(message, format!("see carrack manifest inspect {name}")))
            }
            _ => Err(no_entry(image)),
        }
    }
}

fn list_name(name: &str) -> Result<Reference> {
    let reference: Reference = name.parse()?;
    match reference.digest() {
        None => Ok(reference.or_latest()),
        Some(_) => Err(Error::refused(format!("expected a name with a tag, got {name:?} with a digest"), "")),
    }
}

fn no_entry(image: &str) -> Error {
    Error::refused(format!("the list has no entry {image}"), "name it by the digest of its manifest")
}

fn put_all(list: &mut ManifestList, entries: Vec<(Descriptor, ListSource)>) {
    for (entry, source) in entries {
        list.put(entry, source);
    }
}

/// The descriptor without what only the list says.
fn bare(entry: &Descriptor) -> Descriptor {
    Descriptor::new(&entry.media_type, entry.digest.clone(), entry.size)
}

fn entry_of(image: &Image) -> Descriptor {
    Descriptor { platform: Some(platform_in(&image.config)), ..bare(&image.descriptor) }
}

/// The platform as the config has it; a list says `arm64/v8` where the image does.
fn platform_in(config: &carrack_oci::ImageConfig) -> Platform {
    Platform {
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        os_version: config.os_version.clone(),
        variant: config.variant.clone(),
        ..config.platform()
    }
}

fn chosen(index: &Index) -> Result<&Descriptor> {
    let host = Platform::host();
    index.choose(&host).ok_or_else(|| {
        let offered = index.platforms().join(", ");
        Error::refused(format!("no image for {host}: the index has {offered}"), "add every one with --all")
    })
}

/// The blobs of an entry's manifest; config last.
fn blobs_of(entry: &Descriptor, bytes: &[u8]) -> Result<Vec<Descriptor>> {
    match Document::parse(&entry.media_type, bytes)? {
        Document::Manifest(manifest) => Ok(manifest.layers.into_iter().chain([manifest.config]).collect()),
        Document::Index(_) => Err(Error::refused("an index in an index cannot be pushed", "")),
    }
}
