//! Where an image comes from or goes to besides a registry: folders and archives.
//!
//! | location | format |
//! |---|---|
//! | `oci:FOLDER[:TAG]` | OCI image layout (image-spec, `image-layout.md`) |
//! | `oci-archive:FILE[:TAG]` | the same as one tar |
//! | `docker-archive:FILE[:REFERENCE]` | what `docker save` writes |
//! | `dir:FOLDER` | one image as plain files, as skopeo has it |
//!
//! Invariant: a source is hostile. Names inside it never lead out of it, documents are bounded and verified here,
//! and a blob has the size its descriptor says; the digest of a blob is for the reader's end to check (the content
//! store does). What is written is named when it is complete.

mod archive;
mod archive_writer;
mod dir;
mod docker_archive;
mod files;
mod layout;
mod layout_writer;
mod location;
mod names;
mod output;
mod staged;
mod stream;
mod verified;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use carrack_content::{Blob, ContentStore};
use carrack_oci::{Descriptor, Reference};
use carrack_sys::IoContext;

pub use archive_writer::{ArchiveFormat, ArchiveWriter};
pub use dir::{DirSource, DirWriter};
pub use docker_archive::DockerArchiveSource;
pub use layout::LayoutSource;
pub use layout_writer::LayoutWriter;
pub use location::Location;
pub use output::Output;

use crate::{Error, Result};

/// A manifest or index at the top of a source or destination, with the names it has there.
#[derive(Clone, Debug, PartialEq)]
pub struct Root {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// Its full names; none where the place knows it by a bare tag or not at all.
    pub names: Vec<Reference>,
}

/// A place that images are read from. Methods may be called from several threads at once.
pub trait Source: Send + Sync {
    /// The images on offer: those that the location's tag names, or all.
    fn roots(&self) -> &[Root];

    /// The bytes of a manifest or index, verified against the descriptor.
    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>>;

    /// A config or layer; as many bytes as the descriptor says, not verified against its digest.
    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>>;

    /// The folder or archive, for messages.
    fn path(&self) -> &Path;

    /// The full name of the image, where there is one image with one name.
    fn name(&self) -> Option<Reference> {
        match self.roots() {
            [Root { names, .. }] if names.len() == 1 => names.first().cloned(),
            _ => None,
        }
    }

    /// The image, where there is exactly one; its descriptor has no annotations.
    fn root(&self) -> Result<(Descriptor, Vec<u8>)> {
        match self.roots() {
            [only] => {
                let bare = Descriptor { annotations: None, urls: None, ..only.descriptor.clone() };
                Ok((bare, self.manifest(&only.descriptor)?))
            }
            roots => Err(Error::Choice {
                path: self.path().to_owned(),
                expected: "one image, or a location that names one".to_owned(),
                available: roots.iter().map(layout::display_name).collect(),
            }),
        }
    }
}

/// Opens whatever stands at `path`: a layout or image folder, a Docker archive or an OCI archive, compressed or not.
/// The files of an archive that can only be read from start to end go into `content`.
pub fn open(path: &Path, content: &ContentStore) -> Result<Box<dyn Source>> {
    if !path.is_dir() {
        let file = File::open(path).during("open", path)?;
        return open_file(file, path, content);
    }
    match path.join(layout::LAYOUT_FILE).exists() {
        true => Ok(Box::new(LayoutSource::open(path, None)?)),
        false => Ok(Box::new(DirSource::open(path)?)),
    }
}

/// Opens a Docker or OCI archive that is open already, such as standard input; `name` is for messages.
pub fn open_file(file: File, name: &Path, content: &ContentStore) -> Result<Box<dyn Source>> {
    if archive::is_plain(&file, name)? {
        let archive = archive::Archive::of_plain(file, name)?;
        let is_docker = archive.contains(docker_archive::MANIFEST_FILE);
        return archive_source(Box::new(archive), is_docker);
    }
    let archive = stream::StreamedArchive::read(file, name, content)?;
    let is_docker = archive.contains(docker_archive::MANIFEST_FILE);
    archive_source(Box::new(archive), is_docker)
}

fn archive_source(files: Box<dyn files::Files>, is_docker: bool) -> Result<Box<dyn Source>> {
    match is_docker {
        true => Ok(Box::new(DockerArchiveSource::new(files)?)),
        false => Ok(Box::new(LayoutSource::new(files, None)?)),
    }
}

/// A place that images are written to: blobs and manifests in any order, then the roots.
///
/// Dropped before [`Destination::finish`], it leaves no image and no temporary file; blobs that a layout already
/// holds under their digest stay.
pub trait Destination: Send {
    /// Whether the place has this blob already, so that it need not be read.
    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool>;

    /// Writes a config or layer; it is verified against the descriptor.
    fn put_blob(&mut self, descriptor: &Descriptor, blob: &mut dyn Read) -> Result<()>;

    /// Writes a config or layer that a content store has, and has verified.
    fn put_stored(&mut self, descriptor: &Descriptor, mut blob: Blob) -> Result<()> {
        self.put_blob(descriptor, &mut blob)
    }

    /// Writes a manifest or index.
    fn put_manifest(&mut self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()>;

    /// Names the images and makes all durable.
    fn finish(self: Box<Self>, roots: &[Root]) -> Result<()>;
}
