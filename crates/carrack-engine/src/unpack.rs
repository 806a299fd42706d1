//! Unpack: an image as a plain tree of files.

use std::path::Path;

use carrack_image::Image;
use carrack_image::transport::Location;
use carrack_layer::compression;
use carrack_oci::{DiffId, Document, Platform};
use carrack_snapshot::PlainTree;
use carrack_sys::IoContext;

use crate::error::OperationContext;
use crate::origin::Origin;
use crate::{Engine, Error, Result};

impl Engine {
    /// Unpacks an image into the folder `target`: one of this store by name or ID, or that of a layout or archive. With
    /// an `owner`, every file belongs to it. After an error, what was unpacked stays.
    pub fn unpack(
        &self,
        image: &str,
        platform: &Platform,
        target: &Path,
        owner: Option<(u32, u32)>,
    ) -> Result<()> {
        let unpack = || {
            let tree = || Ok(PlainTree::create(target, owner)?);
            match Location::local(image)? {
                None => self.unpack_stored(image, &tree),
                Some(local) => self.unpack_local(&Origin::open(self, &local)?, platform, &tree),
            }
        };
        unpack().operation("unpack", image)
    }

    fn unpack_stored(&self, name: &str, tree: &dyn Fn() -> Result<PlainTree>) -> Result<()> {
        let _operation = self.operation()?;
        let found = self.images.find(name)?;
        let image = Image::load(&self.content, &found.record.manifest)?;
        let tree = tree()?;
        for layer in image.layers() {
            let mut tar = self.open_layer_tar(&layer.descriptor.digest, layer.diff_id)?;
            check(&tree.add(&mut tar)?, layer.diff_id)?;
        }
        Ok(())
    }

    fn unpack_local(
        &self,
        origin: &Origin,
        platform: &Platform,
        tree: &dyn Fn() -> Result<PlainTree>,
    ) -> Result<()> {
        let (mut descriptor, mut bytes) = origin.root()?;
        if let Document::Index(index) = Document::parse(&descriptor.media_type, &bytes)? {
            let offered = index.platforms().join(", ");
            let entry = index.choose(platform).ok_or_else(|| {
                Error::refused(
                    format!("no image for {platform}: the index has {offered}"),
                    "choose with --platform",
                )
            })?;
            bytes = origin.manifest(entry)?;
            descriptor = entry.clone();
        }
        let Document::Manifest(manifest) = Document::parse(&descriptor.media_type, &bytes)? else {
            return Err(Error::refused("the index names another index, expected a manifest", ""));
        };
        let mut config = Vec::new();
        std::io::Read::read_to_end(&mut origin.local_blob(&manifest.config)?, &mut config)
            .during("read", "the config")?;
        let image = Image::parse(&descriptor, &bytes, &config)?;
        let tree = tree()?;
        for layer in image.layers() {
            let blob = origin.local_blob(layer.descriptor)?;
            let (_, mut tar) = compression::auto(blob).during("read", "a layer")?;
            check(&tree.add(&mut tar)?, layer.diff_id)?;
        }
        Ok(())
    }
}

fn check(got: &DiffId, expected: &DiffId) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    let message = format!("diff ID mismatch: expected {expected}, got {got}");
    Err(Error::refused(message, "the image's config does not belong to its layers"))
}
