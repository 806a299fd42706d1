//! Load: every image of an archive or layout is pulled from it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use carrack_image::ImageRecord;
use carrack_image::transport::{self, Root, Source};
use carrack_oci::{Descriptor, Digest, Platform, Reference};

use crate::error::OperationContext;
use crate::event::Observer;
use crate::origin::Origin;
use crate::{Engine, Error, Result};

/// What is loaded from.
#[derive(Debug)]
pub enum LoadInput {
    /// An archive of any kind and compression, or the folder of a layout.
    Path(PathBuf),
    /// An archive that is open already, such as standard input.
    Stream(File),
}

/// An image that was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The image ID.
    pub id: Digest,
    /// Its names, as the archive has them.
    pub names: Vec<Reference>,
    /// Names that another image had before, with that image's ID.
    pub displaced: Vec<(Reference, Digest)>,
}

impl Engine {
    /// Loads every image of `input`; of one for several platforms, that for `platform`.
    ///
    /// The archive is looked through before anything is named, so that nothing is left of one that is cut short.
    /// Each image is named when it is complete: after a crash the first ones may be there.
    pub fn load(&self, input: LoadInput, platform: &Platform, observer: Observer<'_>) -> Result<Vec<Loaded>> {
        let name = match &input {
            LoadInput::Path(path) => path.display().to_string(),
            LoadInput::Stream(_) => "standard input".to_owned(),
        };
        let loaded = self.load_all(input, &name, platform, observer);
        let loaded = self.clear_after_refusal(loaded).operation("load", &name)?;
        loaded.iter().for_each(|image| self.image_event("load", image.id.as_str(), &name));
        self.enforce_size_cap(&loaded.iter().map(|image| &image.id).collect::<Vec<_>>(), observer)?;
        Ok(loaded)
    }

    fn load_all(
        &self,
        input: LoadInput,
        name: &str,
        platform: &Platform,
        observer: Observer<'_>,
    ) -> Result<Vec<Loaded>> {
        let _operation = self.operation()?;
        let source: Arc<dyn Source> = match input {
            LoadInput::Path(path) => transport::open(&path, &self.content)?.into(),
            LoadInput::Stream(file) => transport::open_file(file, Path::new(name), &self.content)?.into(),
        };
        if source.roots().is_empty() {
            return Err(Error::refused("it has no image", "expected the output of save"));
        }
        let load = |root: &Root| self.load_root(&source, root, platform, observer);
        source.roots().iter().map(load).collect()
    }

    fn load_root(
        &self,
        source: &Arc<dyn Source>,
        root: &Root,
        platform: &Platform,
        observer: Observer<'_>,
    ) -> Result<Loaded> {
        let before = root.names.iter().map(|name| Ok((name.clone(), self.images.get(name)?)));
        let before = before.collect::<Result<Vec<_>>>()?;
        let source = OneRoot { source: Arc::clone(source), root: root.clone() };
        let origin = Origin::Local { source: Box::new(source), name: root.names.first().cloned() };
        let record = self.pull_from(&origin, platform, observer)?.record;
        for name in root.names.iter().skip(1) {
            self.put_record(&ImageRecord { reference: Some(name.clone()), ..record.clone() })?;
        }
        let id = record.id().clone();
        let displaced = before.into_iter().filter_map(|(name, old)| {
            let old = old.filter(|old| *old.id() != id)?;
            Some((name, old.id().clone()))
        });
        Ok(Loaded { displaced: displaced.collect(), names: root.names.clone(), id })
    }
}

/// One image of a place that has several.
struct OneRoot {
    source: Arc<dyn Source>,
    root: Root,
}

impl Source for OneRoot {
    fn roots(&self) -> &[Root] {
        std::slice::from_ref(&self.root)
    }

    fn manifest(&self, descriptor: &Descriptor) -> carrack_image::Result<Vec<u8>> {
        self.source.manifest(descriptor)
    }

    fn blob(&self, descriptor: &Descriptor) -> carrack_image::Result<Box<dyn Read + Send>> {
        self.source.blob(descriptor)
    }

    fn path(&self) -> &Path {
        self.source.path()
    }
}
