//! Where an image is pulled from: registries, or a layout or archive on this machine, behind one face.

use std::io::{self, Read, Write};
use std::thread::Scope;

use carrack_content::Ingest;
use carrack_distribution::{BlobSink, Names};
use carrack_image::transport::{Location, Source};
use carrack_oci::{Descriptor, Reference, Repository};
use carrack_sys::IoContext;

use crate::registries::Places;
use crate::stream::{BlobReader, Exact, produced};
use crate::{Engine, Error, Result};

const COPY_BYTES: usize = 128 << 10;

/// An opened place that has an image.
pub(crate) enum Origin {
    /// A registry, or several that may have it; blobs resume by Range.
    Registry(Box<Places>),
    /// A folder or file of this machine.
    Local { source: Box<dyn Source>, name: Option<Reference> },
}

impl Origin {
    pub(crate) fn open(engine: &Engine, location: &Location) -> Result<Self> {
        match location {
            Location::Registry(reference) => {
                let candidates = vec![reference.clone().or_latest()];
                Self::open_names(engine, &Names { candidates, explanation: None })
            }
            local => {
                let source = local.source(&engine.environment.paths.root)?;
                let name = source.name();
                Ok(Self::Local { source, name })
            }
        }
    }

    /// The first of several names that a registry has an image for.
    pub(crate) fn open_names(engine: &Engine, names: &Names) -> Result<Self> {
        Ok(Self::Registry(Box::new(engine.pull_places(&names.candidates)?)))
    }

    /// The name that the image is recorded under, once its root is known; archives do not always say.
    pub(crate) fn name(&self) -> Option<Reference> {
        match self {
            Self::Registry(places) => Some(places.chosen().name.clone()),
            Self::Local { name, .. } => name.clone(),
        }
    }

    /// The repository, where it is one of a registry.
    pub(crate) fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Registry(places) => Some(places.chosen().reference.repository()),
            Self::Local { .. } => None,
        }
    }

    /// The manifest or index that is meant.
    pub(crate) fn root(&self) -> Result<(Descriptor, Vec<u8>)> {
        match self {
            Self::Registry(places) => {
                let fetched = places.resolve()?;
                Ok((fetched.descriptor, fetched.bytes))
            }
            Self::Local { source, .. } => Ok(source.root()?),
        }
    }

    /// A manifest that an index names.
    pub(crate) fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        match self {
            Self::Registry(places) => {
                places.fetch(&mut |client, reference| client.manifest(reference.repository(), descriptor))
            }
            Self::Local { source, .. } => Ok(source.manifest(descriptor)?),
        }
    }

    /// Opens a blob, which passes straight through: its last bytes come only when all are right.
    pub(crate) fn open_blob<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        descriptor: &'scope Descriptor,
    ) -> Result<BlobReader> {
        let reader = match self {
            Self::Registry(places) => produced(scope, move |out| {
                places.fetch(&mut |client, reference| {
                    client.fetch_blob(reference.repository(), descriptor, out, &|_| {})
                })
            }),
            Self::Local { source, .. } => source.blob(descriptor)?,
        };
        Ok(Box::new(Exact::new(reader, descriptor)))
    }

    /// Opens a blob of this machine.
    pub(crate) fn local_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>> {
        match self {
            Self::Registry(_) => {
                Err(Error::refused("a registry is no place of this machine", "pull it first"))
            }
            Self::Local { source, .. } => Ok(source.blob(descriptor)?),
        }
    }

    /// Whether a fetch goes on from where an earlier one has ended.
    pub(crate) fn resumes(&self) -> bool {
        matches!(self, Self::Registry(_))
    }

    /// Writes a blob's bytes into `sink`, from where it stands; whoever owns it verifies them.
    pub(crate) fn fetch(
        &self,
        descriptor: &Descriptor,
        sink: &mut dyn BlobSink,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        match self {
            Self::Registry(places) => places.fetch(&mut |client, reference| {
                client.fetch_blob(reference.repository(), descriptor, &mut *sink, progress)
            }),
            Self::Local { source, .. } => {
                sink.restart().during("restart", "a blob")?;
                copy(&mut source.blob(descriptor)?, sink, progress)
            }
        }
    }
}

/// Copies a local blob, telling how far it is after each piece.
fn copy(from: &mut dyn Read, to: &mut dyn BlobSink, progress: &dyn Fn(u64)) -> Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let count = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result.during("copy", "a blob")?,
        };
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).during("copy", "a blob")?;
        progress(to.offset());
    }
}

/// Writes into an ingest.
pub(crate) struct IngestSink<'a>(pub &'a mut Ingest);

impl Write for IngestSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobSink for IngestSink<'_> {
    fn offset(&self) -> u64 {
        self.0.offset()
    }

    fn restart(&mut self) -> io::Result<()> {
        self.0.restart().map_err(io::Error::other)
    }
}
