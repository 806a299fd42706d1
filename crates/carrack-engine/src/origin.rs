//! Where an image is pulled from: a registry, or a layout or archive on this machine, behind one face.

use std::io::{self, Read, Write};
use std::thread::Scope;

use carrack_content::Ingest;
use carrack_distribution::{BlobSink, Client};
use carrack_image::transport::{Location, Source};
use carrack_oci::{Descriptor, Reference, Repository};

use crate::stream::{BlobReader, Exact, produced};
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

    /// The repository, where it is one of a registry.
    pub(crate) fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Registry { reference, .. } => Some(reference.repository()),
            Self::Local { .. } => None,
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

    /// Opens a blob, which passes straight through: its last bytes come only when all are right.
    pub(crate) fn open_blob<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        descriptor: &'scope Descriptor,
    ) -> Result<BlobReader> {
        let reader = match self {
            Self::Registry { client, reference } => produced(scope, move |out| {
                Ok(client.fetch_blob(reference.repository(), descriptor, out, &|_| {})?)
            }),
            Self::Local { source, .. } => source.blob(descriptor)?,
        };
        Ok(Box::new(Exact::new(reader, descriptor)))
    }

    /// Writes a blob's bytes into `ingest`, from where it stands; the ingest verifies them.
    pub(crate) fn fetch(
        &self,
        descriptor: &Descriptor,
        ingest: &mut Ingest,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        match self {
            Self::Registry { client, reference } => {
                let mut sink = IngestSink(ingest);
                Ok(client.fetch_blob(reference.repository(), descriptor, &mut sink, progress)?)
            }
            Self::Local { source, .. } => {
                ingest.restart()?;
                copy(&mut source.blob(descriptor)?, ingest, progress)
            }
        }
    }
}

/// Copies a local blob, telling how far it is after each megabyte.
fn copy(from: &mut dyn Read, to: &mut Ingest, progress: &dyn Fn(u64)) -> Result<()> {
    use carrack_sys::IoContext;
    loop {
        let copied = io::copy(&mut from.take(1 << 20), to).during("copy", "a blob")?;
        if copied == 0 {
            return Ok(());
        }
        progress(to.offset());
    }
}

struct IngestSink<'a>(&'a mut Ingest);

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
