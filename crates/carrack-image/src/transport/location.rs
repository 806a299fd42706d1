//! Locations: how a user names a place outside the local store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use carrack_oci::Reference;

use super::DockerArchiveSource;
use super::{
    ArchiveFormat, ArchiveWriter, Destination, DirSource, DirWriter, LayoutSource, LayoutWriter, Source,
};
use crate::{Error, Result};

/// A place that images are copied from or to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `docker://REFERENCE`, or a reference alone.
    Registry(Reference),
    /// `oci:FOLDER[:TAG]`
    OciLayout {
        /// The layout.
        folder: PathBuf,
        /// The image's `org.opencontainers.image.ref.name`.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`
    OciArchive {
        /// The tar.
        file: PathBuf,
        /// The image's `org.opencontainers.image.ref.name`.
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:REFERENCE]`
    DockerArchive {
        /// The tar.
        file: PathBuf,
        /// The image's name in it.
        reference: Option<Reference>,
    },
    /// `dir:FOLDER`
    Dir {
        /// The folder.
        folder: PathBuf,
    },
}

impl Location {
    /// Opens the place for reading; `scratch` is a folder that takes the uncompressed bytes of a compressed archive.
    /// A registry is refused: another crate talks to it.
    pub fn source(&self, scratch: &Path) -> Result<Box<dyn Source>> {
        Ok(match self {
            Self::Registry(_) => return Err(self.not_a_path()),
            Self::OciLayout { folder, tag } => Box::new(LayoutSource::open(folder, tag.as_deref())?),
            Self::OciArchive { file, tag } => {
                Box::new(LayoutSource::open_archive(file, tag.as_deref(), scratch)?)
            }
            Self::DockerArchive { file, reference } => {
                Box::new(DockerArchiveSource::open(file, reference.as_ref(), scratch)?)
            }
            Self::Dir { folder } => Box::new(DirSource::open(folder)?),
        })
    }

    /// Begins to write to the place; a registry is refused.
    pub fn destination(&self) -> Result<Box<dyn Destination>> {
        Ok(match self {
            Self::Registry(_) => return Err(self.not_a_path()),
            Self::OciLayout { folder, tag } => Box::new(LayoutWriter::create(folder, tag.as_deref())?),
            Self::OciArchive { file, tag } => {
                Box::new(ArchiveWriter::create(file, ArchiveFormat::Oci { tag: tag.clone() })?)
            }
            Self::DockerArchive { file, reference } => {
                let format = ArchiveFormat::Docker { reference: reference.clone() };
                Box::new(ArchiveWriter::create(file, format)?)
            }
            Self::Dir { folder } => Box::new(DirWriter::create(folder)?),
        })
    }

    fn not_a_path(&self) -> Error {
        Error::Location {
            text: self.to_string(),
            reason: "expected a folder or an archive, got a registry".to_owned(),
        }
    }
}

impl Location {
    /// Reads a folder or an archive; `None` for a text that names no transport, such as a name or an ID.
    pub fn local(text: &str) -> Result<Option<Self>> {
        let refuse = |reason: String| Error::Location { text: text.to_owned(), reason };
        let (transport, rest) = text.split_once(':').unwrap_or(("", text));
        let (path, name) = match rest.split_once(':') {
            Some((path, name)) => (PathBuf::from(path), Some(name.to_owned())),
            None => (PathBuf::from(rest), None),
        };
        let is_transport = matches!(transport, "oci" | "oci-archive" | "docker-archive" | "dir");
        if is_transport && path.as_os_str().is_empty() {
            return Err(refuse(format!("expected {transport}:PATH")));
        }
        if name.as_ref().is_some_and(String::is_empty) && is_transport {
            return Err(refuse("expected a name after the second colon".to_owned()));
        }
        Ok(Some(match transport {
            "oci" => Self::OciLayout { folder: path, tag: name },
            "oci-archive" => Self::OciArchive { file: path, tag: name },
            "docker-archive" => {
                let reference = name.as_deref().map(|name| parse_reference(name, text)).transpose()?;
                Self::DockerArchive { file: path, reference }
            }
            "dir" => Self::Dir { folder: PathBuf::from(rest) },
            "containers-storage" | "docker-daemon" | "ostree" | "sif" | "tarball" => {
                return Err(refuse(format!(
                    "unsupported transport {transport}: expected docker://, oci:, oci-archive:, docker-archive: or dir:"
                )));
            }
            _ => return Ok(None),
        }))
    }
}

/// Reads a name that is part of `text`, or all of it.
fn parse_reference(name: &str, text: &str) -> Result<Reference> {
    let parsed = name.parse::<Reference>().map(Reference::or_latest);
    parsed.map_err(|error| Error::Location { text: text.to_owned(), reason: error.to_string() })
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match Self::local(text)? {
            Some(local) => Ok(local),
            None => {
                let name = text.strip_prefix("docker://").unwrap_or(text);
                Ok(Self::Registry(parse_reference(name, text)?))
            }
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, name) = match self {
            Self::Registry(reference) => return reference.fmt(formatter),
            Self::OciLayout { folder, tag } => ("oci", folder, tag.clone()),
            Self::OciArchive { file, tag } => ("oci-archive", file, tag.clone()),
            Self::DockerArchive { file, reference } => {
                ("docker-archive", file, reference.as_ref().map(ToString::to_string))
            }
            Self::Dir { folder } => ("dir", folder, None),
        };
        write!(formatter, "{transport}:{}", path.display())?;
        name.map_or(Ok(()), |name| write!(formatter, ":{name}"))
    }
}
