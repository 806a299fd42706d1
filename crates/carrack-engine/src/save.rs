//! Save: images of this machine become one archive or folder; what they share is in it once.

use std::path::PathBuf;

use carrack_image::transport::{
    ArchiveFormat, ArchiveWriter, Destination, DirWriter, LayoutWriter, Output, Root,
};
use carrack_image::{Image, ImageRecord, Layer};
use carrack_oci::{Descriptor, Document, Manifest, Platform, Reference, media_type};

use crate::error::OperationContext;
use crate::event::{Event, Observer, Phase};
use crate::layers::{LayerBytes, LayerFinder};
use crate::{Engine, Error, Format, Result};

/// What images are saved as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveFormat {
    /// What `docker load` reads: a tar, its layers plain where the store has them so.
    DockerArchive,
    /// A tar of an OCI layout, its layers compressed where the store has them so.
    OciArchive,
    /// An OCI layout.
    OciDir,
    /// A folder of one image with a Docker manifest, as skopeo's `dir:` has it.
    DockerDir,
}

/// Where images are saved to.
pub enum SaveTarget {
    /// An archive, in a file or a stream.
    Archive(Output),
    /// A folder.
    Folder(PathBuf),
}

/// What a user asks for with `save`.
pub struct SaveRequest {
    /// Names or IDs. A repository without a tag means all its tags, as in Docker.
    pub images: Vec<String>,
    /// What they are saved as.
    pub format: SaveFormat,
    /// Which of the platforms that are here; the one that was pulled by default.
    pub platform: Option<Platform>,
    /// Where to.
    pub target: SaveTarget,
}

/// One image and the names that it has in the archive.
struct Chosen {
    image: Image,
    names: Vec<Reference>,
}

impl Engine {
    /// Saves images. Image IDs stay; manifest digests stay where every layer is written as its manifest has it.
    ///
    /// A file gets its name when it is complete, so that a crash leaves none.
    pub fn save(&self, request: SaveRequest, observer: Observer<'_>) -> Result<()> {
        let names = request.images.clone();
        self.save_all(request, observer).operation("save", names.join(", "))?;
        for name in &names {
            self.records_of(name)?.iter().for_each(|record| self.record_event("save", record));
        }
        Ok(())
    }

    fn save_all(&self, request: SaveRequest, observer: Observer<'_>) -> Result<()> {
        let _operation = self.operation()?;
        let mut chosen: Vec<Chosen> = Vec::new();
        for name in &request.images {
            self.choose(name, request.platform.as_ref(), &mut chosen).operation("find", name)?;
        }
        if request.format == SaveFormat::DockerDir && chosen.len() != 1 {
            let message = format!("a docker-dir has one image, got {}", chosen.len());
            return Err(Error::refused(message, "save each image to a folder of its own"));
        }
        let mut destination = destination(request.format, request.target)?;
        let finder = LayerFinder::new(self);
        let saving = Saving { engine: self, finder: &finder, format: request.format, observer };
        let mut roots = Vec::new();
        for Chosen { image, names } in chosen {
            let descriptor = saving.write(&image, destination.as_mut())?;
            roots.push(Root { descriptor, names });
        }
        Ok(destination.finish(&roots)?)
    }

    /// Adds the images that `name` means; one that is there already gets a further name.
    fn choose(&self, name: &str, platform: Option<&Platform>, chosen: &mut Vec<Chosen>) -> Result<()> {
        for record in self.records_of(name)? {
            let image = self.image_for(&record, platform)?;
            let same = chosen.iter_mut().find(|known| known.image.descriptor == image.descriptor);
            let known = match same {
                Some(known) => known,
                None => {
                    chosen.push(Chosen { image, names: Vec::new() });
                    chosen.last_mut().expect("it was just put there")
                }
            };
            known.names.extend(record.reference.filter(|name| !known.names.contains(name)));
        }
        Ok(())
    }

    /// The images that a user means by `name`; one that is found by its ID goes without a name.
    fn records_of(&self, name: &str) -> Result<Vec<ImageRecord>> {
        let tags = self.all_tags(name)?;
        if !tags.is_empty() {
            return Ok(tags);
        }
        let (record, matched_by) = self.images.find_record(name)?;
        let is_named = matched_by == carrack_image::MatchedBy::Name;
        Ok(vec![ImageRecord { reference: record.reference.clone().filter(|_| is_named), ..record }])
    }

    /// The images of a repository that is named without a tag.
    fn all_tags(&self, name: &str) -> Result<Vec<ImageRecord>> {
        let Ok(reference) = name.parse::<Reference>() else { return Ok(Vec::new()) };
        if reference.tag().is_some() || reference.digest().is_some() {
            return Ok(Vec::new());
        }
        let is_of_it = |record: &ImageRecord| {
            let own = record.reference.as_ref();
            own.is_some_and(|own| own.repository() == reference.repository() && own.tag().is_some())
        };
        Ok(self.images.list()?.into_iter().filter(is_of_it).collect())
    }

    /// The image of a record for a platform: the one that was pulled, or another of its index that is here.
    fn image_for(&self, record: &ImageRecord, platform: Option<&Platform>) -> Result<Image> {
        let Some(platform) = platform.filter(|platform| platform.distance(&record.platform).is_none()) else {
            return Ok(Image::load(&self.content, &record.manifest)?);
        };
        match self.image_of_index(&record.target, platform)? {
            Some(image) => Ok(image),
            None => {
                let message = format!("no image for {platform} is here, only one for {}", record.platform);
                Err(Error::refused(message, format!("pull it first: carrack pull --platform {platform}")))
            }
        }
    }

    fn image_of_index(&self, target: &Descriptor, platform: &Platform) -> Result<Option<Image>> {
        if !media_type::is_index(&target.media_type) || self.content.size(&target.digest)?.is_none() {
            return Ok(None);
        }
        let document = Document::parse(&target.media_type, &self.content.read(&target.digest)?)?;
        let Document::Index(index) = document else { return Ok(None) };
        let Some(entry) = index.choose(platform) else { return Ok(None) };
        if self.content.size(&entry.digest)?.is_none() {
            return Ok(None);
        }
        let descriptor = Descriptor { platform: None, annotations: None, ..entry.clone() };
        let image = Image::load(&self.content, &descriptor)?;
        for layer in image.layers() {
            if !self.has_layer(&layer.descriptor.digest, layer.diff_id)? {
                return Ok(None);
            }
        }
        Ok(Some(image))
    }
}

/// How images are written to one place.
struct Saving<'a> {
    engine: &'a Engine,
    finder: &'a LayerFinder<'a>,
    format: SaveFormat,
    observer: Observer<'a>,
}

impl Saving<'_> {
    /// Writes layers, config and manifest; returns the descriptor of the manifest that was written.
    fn write(&self, image: &Image, destination: &mut dyn Destination) -> Result<Descriptor> {
        let mut layers = Vec::with_capacity(image.manifest.layers.len());
        for layer in image.layers() {
            let (descriptor, bytes) = self.writable_layer(&layer)?;
            let is_there = destination.has_blob(&descriptor)?;
            if !is_there {
                self.write_layer(&descriptor, &bytes, destination)?;
            }
            let phase = if is_there { Phase::Exists } else { Phase::Complete };
            (self.observer)(Event::Blob { digest: &descriptor.digest, phase });
            layers.push(descriptor);
        }
        self.warn_of_plain_layers(image, &layers);
        let config = &image.manifest.config;
        destination.put_stored(config, self.engine.content.open_blob(&config.digest)?)?;
        let (descriptor, bytes) = self.manifest(image, layers)?;
        destination.put_manifest(&descriptor, &bytes)?;
        Ok(descriptor)
    }

    /// How a layer can be written: compressed as its manifest has it, or as its plain tar. Archives of Docker have
    /// plain tars, the others keep the manifest's digest where they can without asking a registry.
    fn writable_layer(&self, layer: &Layer<'_>) -> Result<(Descriptor, LayerBytes)> {
        let exact = self.finder.find_here(layer.descriptor)?.map(|bytes| (layer.descriptor.clone(), bytes));
        let tar = self.engine.content.size(&layer.diff_id.0)?.map(|size_bytes| {
            let tar = Descriptor::new(media_type::OCI_LAYER, layer.diff_id.0.clone(), size_bytes);
            // Where the manifest itself has the tar, its descriptor stays as it is.
            let is_same = tar.digest == layer.descriptor.digest;
            (if is_same { layer.descriptor.clone() } else { tar }, LayerBytes::Kept)
        });
        let chosen = match self.format {
            SaveFormat::DockerArchive => tar.or(exact),
            SaveFormat::OciArchive | SaveFormat::OciDir | SaveFormat::DockerDir => exact.or(tar),
        };
        chosen.ok_or_else(|| {
            let message = format!("layer {} is not in the store", layer.descriptor.digest);
            Error::refused(message, "pull the image again")
        })
    }

    fn write_layer(
        &self,
        layer: &Descriptor,
        bytes: &LayerBytes,
        destination: &mut dyn Destination,
    ) -> Result<()> {
        if *bytes == LayerBytes::Kept {
            return Ok(destination.put_stored(layer, self.engine.content.open_blob(&layer.digest)?)?);
        }
        std::thread::scope(|scope| {
            let mut reader = self.finder.open(scope, layer, bytes)?;
            Ok(destination.put_blob(layer, &mut reader)?)
        })
    }

    /// The digest of an image changes where the user does not expect it: only archives of Docker are always plain.
    fn warn_of_plain_layers(&self, image: &Image, written: &[Descriptor]) {
        let pairs = image.manifest.layers.iter().zip(written);
        let plain: Vec<_> = pairs.filter(|(own, written)| own.digest != written.digest).collect();
        let Some((first, _)) = plain.first() else { return };
        if self.format != SaveFormat::DockerArchive {
            let text = format!(
                "the manifest digest changes: {} of {} layers are written as plain tars, because their compressed bytes (the first: {}) are not kept here; push to an oci: or oci-archive: place fetches them from their registry",
                plain.len(),
                written.len(),
                first.digest
            );
            (self.observer)(Event::Warning(&text));
        }
    }

    /// The image's own manifest where it still is right, else one of the same config with `layers`.
    fn manifest(&self, image: &Image, layers: Vec<Descriptor>) -> Result<(Descriptor, Vec<u8>)> {
        let wants_docker = self.format == SaveFormat::DockerDir;
        let is_docker = image.descriptor.media_type == media_type::DOCKER_MANIFEST;
        if layers == image.manifest.layers && (is_docker || !wants_docker) {
            let bytes = self.engine.content.read(&image.descriptor.digest)?;
            return Ok((image.descriptor.clone(), bytes));
        }
        let written = if wants_docker { Format::Docker } else { Format::Oci };
        let manifest = written.manifest(&image.manifest.config, layers)?;
        let manifest = Manifest { annotations: image.manifest.annotations.clone(), ..manifest };
        let bytes = serde_json::to_vec(&manifest).expect("a manifest has string keys only");
        Ok((Descriptor::of(written.manifest_type(), &bytes), bytes))
    }
}

fn destination(format: SaveFormat, target: SaveTarget) -> Result<Box<dyn Destination>> {
    let archive = |output, format| Ok(Box::new(ArchiveWriter::new(output, format)) as Box<dyn Destination>);
    match (format, target) {
        (SaveFormat::DockerArchive, SaveTarget::Archive(output)) => {
            archive(output, ArchiveFormat::Docker { reference: None })
        }
        (SaveFormat::OciArchive, SaveTarget::Archive(output)) => {
            archive(output, ArchiveFormat::Oci { tag: None })
        }
        (SaveFormat::OciDir, SaveTarget::Folder(folder)) => {
            Ok(Box::new(LayoutWriter::create(&folder, None)?))
        }
        (SaveFormat::DockerDir, SaveTarget::Folder(folder)) => Ok(Box::new(DirWriter::create(&folder)?)),
        (SaveFormat::DockerArchive | SaveFormat::OciArchive, SaveTarget::Folder(folder)) => {
            Err(Error::refused(format!("{} is a folder, expected a file", folder.display()), ""))
        }
        (SaveFormat::OciDir | SaveFormat::DockerDir, SaveTarget::Archive(_)) => {
            Err(Error::refused("a layout of a folder cannot be a stream", "name a folder with --output"))
        }
    }
}
