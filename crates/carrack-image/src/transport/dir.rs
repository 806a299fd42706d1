//! One image as plain files, as skopeo's `dir:` has it.
//!
//! ```text
//! version               "Directory Transport Version: 1.1"
//! manifest.json         the root: a manifest or an index
//! <hex>.manifest.json   each manifest that an index names
//! <hex>                 each config and layer
//! ```
//!
//! Invariant: the folder is written beside its name and takes it as a whole, replacing only a folder of this format.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use carrack_oci::{Descriptor, Digest, media_type};
use carrack_sys::{IoContext, atomic};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::Deserialize;

use super::files::{Files, Folder};
use super::staged::{folder_of, temporary_name};
use super::{Destination, Root, Source, verified};
use crate::{Error, Result};

const KIND: &str = "image folder";
const VERSION_FILE: &str = "version";
const VERSION_PREFIX: &[u8] = b"Directory Transport Version: 1.";
const VERSION_TEXT: &[u8] = b"Directory Transport Version: 1.1\n";
const ROOT_FILE: &str = "manifest.json";

/// A folder that one image is read from.
pub struct DirSource {
    folder: Folder,
    root: Root,
}

impl DirSource {
    /// Opens the folder and computes the descriptor of its root.
    pub fn open(path: &Path) -> Result<Self> {
        let folder = Folder::open(path)?;
        let refuse = |reason: String| Error::Format { kind: KIND, path: path.to_owned(), reason };
        let version =
            folder.read(VERSION_FILE)?.ok_or_else(|| refuse(format!("it has no file {VERSION_FILE}")))?;
        if !version.starts_with(VERSION_PREFIX) {
            return Err(refuse(format!("{VERSION_FILE}: expected \"{}\"", VERSION_TEXT.escape_ascii())));
        }
        let bytes = folder.read(ROOT_FILE)?.ok_or_else(|| refuse(format!("it has no file {ROOT_FILE}")))?;
        let kind = own_media_type(&bytes).map_err(|error| refuse(format!("{ROOT_FILE}: {error}")))?;
        let root = Root { descriptor: Descriptor::of(&kind, &bytes), names: Vec::new() };
        Ok(Self { folder, root })
    }
}

/// What a document says it is; OCI lets it leave that out, and then its shape tells.
fn own_media_type(bytes: &[u8]) -> Result<String, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape = carrack_oci::parse_strict(bytes)?;
    let by_shape = if shape.manifests.is_some() { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST };
    Ok(shape.media_type.unwrap_or_else(|| by_shape.to_owned()))
}

fn manifest_name(digest: &Digest) -> String {
    format!("{}.manifest.json", digest.hex())
}

impl Source for DirSource {
    fn roots(&self) -> &[Root] {
        std::slice::from_ref(&self.root)
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let is_root = descriptor.digest == self.root.descriptor.digest;
        let name = if is_root { ROOT_FILE.to_owned() } else { manifest_name(&descriptor.digest) };
        self.folder.read_verified(&name, descriptor)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>> {
        self.folder.open_blob(descriptor.digest.hex(), descriptor)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// A folder that one image is written to.
pub struct DirWriter {
    folder: PathBuf,
    staging: PathBuf,
}

impl DirWriter {
    /// Begins to write; the folder must be missing, empty, or of this format (it is replaced at the end).
    pub fn create(folder: &Path) -> Result<Self> {
        check_replaceable(folder)?;
        let staging = temporary_name(folder_of(folder));
        fs::create_dir(&staging).during("create the folder", &staging)?;
        let writer = Self { folder: folder.to_owned(), staging };
        writer.write(VERSION_FILE, &Descriptor::of("text/plain", VERSION_TEXT), &mut { VERSION_TEXT })?;
        Ok(writer)
    }

    fn write(&self, name: &str, descriptor: &Descriptor, bytes: &mut dyn Read) -> Result<()> {
        let path = self.staging.join(name);
        let mut file = File::create(&path).during("create", &path)?;
        verified::copy(descriptor, bytes, &mut file, &path)?;
        file.flush().and_then(|()| file.sync_data()).during("sync", &path)?;
        Ok(())
    }
}

fn check_replaceable(folder: &Path) -> Result<()> {
    let mut entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        result => result.during("list", folder)?,
    };
    if entries.next().is_none() {
        return Ok(());
    }
    let version = Folder::open(folder)?.read(VERSION_FILE)?;
    if version.is_some_and(|text| text.starts_with(VERSION_PREFIX)) {
        return Ok(());
    }
    let reason = "expected it to be missing, empty or an image folder, got other files".to_owned();
    Err(Error::Format { kind: KIND, path: folder.to_owned(), reason })
}

impl Destination for DirWriter {
    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.staging.join(descriptor.digest.hex()).exists())
    }

    fn put_blob(&mut self, descriptor: &Descriptor, blob: &mut dyn Read) -> Result<()> {
        if self.has_blob(descriptor)? {
            return Ok(());
        }
        self.write(descriptor.digest.hex(), descriptor, blob)
    }

    fn put_manifest(&mut self, descriptor: &Descriptor, mut bytes: &[u8]) -> Result<()> {
        self.write(&manifest_name(&descriptor.digest), descriptor, &mut bytes)
    }

    fn finish(self: Box<Self>, roots: &[Root]) -> Result<()> {
        let [root] = roots else {
            let reason = format!("expected one image, got {}", roots.len());
            return Err(Error::Format { kind: KIND, path: self.folder.clone(), reason });
        };
        let manifest = self.staging.join(manifest_name(&root.descriptor.digest));
        fs::rename(&manifest, self.staging.join(ROOT_FILE)).during("rename", &manifest)?;
        atomic::sync_parent(&manifest)?;
        check_replaceable(&self.folder)?;
        if self.folder.exists() {
            // The old image is in the staging folder then, which goes when the writer is dropped.
            let exchanged = renameat_with(CWD, &self.staging, CWD, &self.folder, RenameFlags::EXCHANGE);
            exchanged.during("exchange", &self.folder)?;
        } else {
            fs::rename(&self.staging, &self.folder).during("rename to", &self.folder)?;
        }
        Ok(atomic::sync_parent(&self.staging)?)
    }
}

impl Drop for DirWriter {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.staging);
    }
}
