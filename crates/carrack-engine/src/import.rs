//! Import: a tar of a root filesystem becomes an image of one layer.

use std::io::{self, Read};

use carrack_image::{Image, ImageRecord};
use carrack_layer::compression;
use carrack_oci::{Descriptor, DiffId, History, ImageConfig, Manifest, Platform, Reference, media_type};
use carrack_snapshot::{SnapshotKey, Unpacked};
use carrack_sys::IoContext;

use crate::error::OperationContext;
use crate::event::{Event, Observer, Phase};
use crate::images::check_new_name;
use crate::{Engine, Error, Result};

/// What an import makes of its tar.
#[derive(Debug)]
pub struct ImportOptions {
    /// The name of the new image; without one it is reached by ID.
    pub reference: Option<Reference>,
    /// What the image runs on.
    pub platform: Platform,
    /// The remark in the image's history.
    pub message: String,
    /// Dockerfile instructions (`CMD`, `ENV` ...) that are applied to the config.
    pub changes: Vec<String>,
}

impl Engine {
    /// Imports the tar that `source` yields (`origin` names it in errors), in any compression that carrack reads.
    pub fn import(
        &self,
        source: Box<dyn Read + Send>,
        origin: &str,
        options: ImportOptions,
        observer: Observer<'_>,
    ) -> Result<ImageRecord> {
        options.reference.as_ref().map_or(Ok(()), check_new_name).operation("import", origin)?;
        let imported = self.import_tar(source, options, observer);
        let record = self.clear_after_refusal(imported).operation("import", origin)?;
        self.record_event("import", &record);
        self.enforce_size_cap(&[record.id()], observer)?;
        Ok(record)
    }

    fn import_tar(
        &self,
        source: Box<dyn Read + Send>,
        options: ImportOptions,
        observer: Observer<'_>,
    ) -> Result<ImageRecord> {
        let _operation = self.operation()?;
        let (_, mut tar) = compression::auto(source).during("read", "the archive")?;
        let unpacked = self.take_tar(&mut tar)?;
        let diff_id = unpacked.diff_id().clone();
        let digest = diff_id.0.clone();
        let layer = Descriptor::new(media_type::OCI_LAYER, digest.clone(), unpacked.size_bytes());
        let config = imported_config(&options, diff_id)?;
        let image = self.write_image(&config, vec![layer])?;
        self.stack_layers(&image, vec![(0, unpacked)])?;
        observer(Event::Blob { digest: &digest, phase: Phase::Complete });
        self.record_image(&image, options.reference)
    }

    /// Takes the tar of a layer that is known by nothing but its bytes: into the content store, and unpacked.
    pub(crate) fn take_tar(&self, tar: &mut (dyn Read + Send)) -> Result<Unpacked> {
        let mut start = Vec::with_capacity(1);
        tar.take(1).read_to_end(&mut start).during("read", "the archive")?;
        if start.is_empty() {
            return Err(Error::refused("the archive is empty", "expected a tar of a root filesystem"));
        }
        let mut tar = io::Cursor::new(start).chain(tar);
        if self.snapshots.needs_tars() {
            return Ok(self.snapshots.unpack(&SnapshotKey::unique("layer"), &mut tar, None)?);
        }
        let mut writer = self.content.writer()?;
        io::copy(&mut tar, &mut writer).during("read", "the archive")?;
        let (digest, _) = writer.commit()?;
        self.unpack_layer(&digest, &DiffId(digest.clone()))
    }

    /// Stores config and manifest of an image that was made here.
    pub(crate) fn write_image(&self, config: &ImageConfig, layers: Vec<Descriptor>) -> Result<Image> {
        let bytes = serde_json::to_vec(config).expect("a config has string keys only");
        self.content.put(&bytes)?;
        let manifest = Manifest::oci(Descriptor::of(media_type::OCI_CONFIG, &bytes), layers);
        let bytes = serde_json::to_vec(&manifest).expect("a manifest has string keys only");
        self.content.put(&bytes)?;
        let descriptor = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
        Ok(Image { descriptor, manifest, config: config.clone() })
    }

    /// Names an image that was made here; all that it names must be complete.
    pub(crate) fn record_image(&self, image: &Image, reference: Option<Reference>) -> Result<ImageRecord> {
        let record = ImageRecord::new(reference, image.descriptor.clone(), image);
        let record = ImageRecord { size_bytes: self.unpacked_bytes(image)?, ..record };
        self.put_record(&record)?;
        Ok(record)
    }

    /// Writes an image record; an image that has a name is not recorded once more without one.
    pub(crate) fn put_record(&self, record: &ImageRecord) -> Result<()> {
        match record.reference.is_none() && !self.images.names_of(record.id())?.is_empty() {
            true => Ok(()),
            false => Ok(self.images.put(record)?),
        }
    }
}

fn imported_config(options: &ImportOptions, diff_id: DiffId) -> Result<ImageConfig> {
    let now = jiff::Timestamp::now().to_string();
    let mut config = ImageConfig::empty(&options.platform);
    config.created = Some(now.clone());
    config.rootfs.diff_ids.push(diff_id);
    config.history.push(History {
        created: Some(now),
        comment: Some(options.message.clone()),
        ..History::default()
    });
    carrack_build::apply_changes(&mut config, &options.changes)?;
    Ok(config)
}
