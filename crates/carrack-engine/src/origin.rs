//! Where an image is pulled from: a registry, or a layout or archive on this machine, behind one face.

use std::io::{self, Read, Write};

use carrack_content::Ingest;
use carrack_distribution::{BlobSink, Client};
use carrack_image::transport::{Location, Source};
use carrack_oci::{Descriptor, Reference};
use carrack_sys::IoContext;

use crate::{Engine, Result};

/// An opened place that has an image.
pub(crate) enum Origin {
    /// A registry; its blobs resume by Range.
    Registry { client: Box<Client>, reference: Reference },
    /// A folder or file of this machine.
    Local { source: Box<dyn Source>, name: Option<Reference> },
}

impl Origin {
    pub(crate) fn open(engine: &Engine, location: &Location) -> Result<Self> {
        match location {
            Location::Registry(reference) => Ok(Self::Registry {
                client: Box::new(engine.registry_client()?),
                reference: reference.clone().or_latest(),
            }),
            local => {
                let source = local.source(&engine.environment.paths.root)?;
                let name = source.name();
                Ok(Self::Local { source, name })
            }
        }
    }

    /// The name that the image is recorded under; archives do not always say.
    pub(crate) fn name(&self) -> Option<Reference> {
        match self {
            Self::Registry { reference, .. } => Some(reference.clone()),
            Self::Local { name, .. } => name.clone(),
        }
    }

    /// The manifest or index that is meant.
    pub(crate) fn root(&self) -> Result<(Descriptor, Vec<u8>)> {
        match self {
            Self::Registry { client, reference } => {
                let fetched = client.resolve(reference)?;
                Ok((fetched.descriptor, fetched.bytes))
            }
            Self::Local { source, .. } => Ok(source.root()?),
        }
    }

    /// A manifest that an index names.
    pub(crate) fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        match self {
            Self::Registry { client, reference } => Ok(client.manifest(reference.repository(), descriptor)?),
            Self::Local { source, .. } => Ok(source.manifest(descriptor)?),
        }
    }

    /// Whether a fetch goes on from where an earlier one has ended.
    pub(crate) fn resumes(&self) -> bool {
        matches!(self, Self::Registry { .. })
    }

    /// Writes a blob's bytes into `sink`, from where it stands; whoever owns it verifies them.
    pub(crate) fn fetch(
        &self,
        descriptor: &Descriptor,
        sink: &mut dyn BlobSink,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        match self {
            Self::Registry { client, reference } => {
                Ok(client.fetch_blob(reference.repository(), descriptor, sink, progress)?)
            }
            Self::Local { source, .. } => {
                sink.restart().during("restart", "a blob")?;
                copy(&mut source.blob(descriptor)?, sink, progress)
            }
        }
    }
}

/// Copies a local blob, telling how far it is after each megabyte.
fn copy(from: &mut dyn Read, to: &mut dyn BlobSink, progress: &dyn Fn(u64)) -> Result<()> {
    loop {
        let copied = io::copy(&mut from.take(1 << 20), &mut *to).during("copy", "a blob")?;
        if copied == 0 {
            return Ok(());
        }
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
