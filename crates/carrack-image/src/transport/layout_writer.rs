//! Writing an OCI image layout folder (image-spec, `image-layout.md`).
//!
//! Invariant: other images and unknown keys of `index.json` are kept. Every file is whole or absent, and
//! `index.json` is changed under a lock on the folder, so that two writers both succeed.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use carrack_oci::{Descriptor, parse_strict};
use carrack_sys::IoContext;
use carrack_sys::atomic::{self, Durability};
use serde_json::{Value, json};

use super::files::{Folder, blob_name};
use super::layout::{
    IMAGE_NAME, INDEX_FILE, KIND, LAYOUT_FILE, LAYOUT_TEXT, REF_NAME, check_version, parse_index,
};
use super::staged::StagedFile;
use super::{Destination, Root, verified};
use crate::{Error, Result};

/// A layout folder that images are written to.
pub struct LayoutWriter {
    folder: PathBuf,
    tag: Option<String>,
}

impl LayoutWriter {
    /// Opens a layout, or makes one where the folder is missing or empty. With `tag` the image gets this
    /// `org.opencontainers.image.ref.name`, without it the names of its root.
    pub fn create(folder: &Path, tag: Option<&str>) -> Result<Self> {
        fs::create_dir_all(folder).during("create the folder", folder)?;
        let writer = Self { folder: folder.to_owned(), tag: tag.map(str::to_owned) };
        let _lock = writer.lock()?;
        match folder.join(LAYOUT_FILE).exists() {
            true => check_version(&Folder::open(folder)?)?,
            false => writer.begin_layout()?,
        }
        Ok(writer)
    }

    /// Makes a layout of a folder that has nothing in it but what an earlier attempt may have left.
    fn begin_layout(&self) -> Result<()> {
        for entry in fs::read_dir(&self.folder).during("list", &self.folder)? {
            let name = entry.during("list", &self.folder)?.file_name();
            if !name.as_encoded_bytes().starts_with(b".") {
                let reason = format!("it holds {} but no file {LAYOUT_FILE}", name.display());
                return Err(Error::Format { kind: KIND, path: self.folder.clone(), reason });
            }
        }
        Ok(atomic::write(&self.folder.join(LAYOUT_FILE), LAYOUT_TEXT, 0o666, Durability::Durable)?)
    }

    /// A lock on the folder itself leaves no file in a layout that others read.
    fn lock(&self) -> Result<File> {
        let directory = File::open(&self.folder).during("open", &self.folder)?;
        directory.lock().during("lock", &self.folder)?;
        Ok(directory)
    }

    fn blob_path(&self, descriptor: &Descriptor) -> PathBuf {
        self.folder.join(blob_name(&descriptor.digest))
    }

    /// Makes the names of blobs durable, before an index names them.
    fn sync_blobs(&self) -> Result<()> {
        let blobs = self.folder.join("blobs");
        for algorithm in fs::read_dir(&blobs).during("list", &blobs)? {
            atomic::sync_parent(&algorithm.during("list", &blobs)?.path().join("any"))?;
        }
        Ok(atomic::sync_parent(&blobs.join("any"))?)
    }

    fn read_index(&self) -> Result<Value> {
        let path = self.folder.join(INDEX_FILE);
        let Some(bytes) = atomic::read(&path)? else {
            return Ok(json!({"schemaVersion": 2, "manifests": []}));
        };
        parse_index(&bytes)
            .map_err(|source| Error::Document { object: path.display().to_string(), source })?;
        Ok(parse_strict(&bytes).expect("just parsed"))
    }
}

impl Destination for LayoutWriter {
    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        let path = self.blob_path(descriptor);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(metadata.is_file() && metadata.len() == descriptor.size),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).during("look up", &path).map_err(Error::from),
        }
    }

    fn put_blob(&mut self, descriptor: &Descriptor, blob: &mut dyn Read) -> Result<()> {
        if self.has_blob(descriptor)? {
            return Ok(());
        }
        let path = self.blob_path(descriptor);
        let parent = path.parent().expect("a blob is in a folder");
        fs::create_dir_all(parent).during("create the folder", parent)?;
        let mut staged = StagedFile::create(&self.folder)?;
        verified::copy(descriptor, blob, &mut staged, &path)?;
        staged.name(&path)
    }

    fn put_manifest(&mut self, descriptor: &Descriptor, mut bytes: &[u8]) -> Result<()> {
        self.put_blob(descriptor, &mut bytes)
    }

    fn finish(self: Box<Self>, roots: &[Root]) -> Result<()> {
        self.sync_blobs()?;
        let _lock = self.lock()?;
        let mut index = self.read_index()?;
        let entries = index["manifests"].as_array_mut().expect("parsed as an index");
        for entry in roots.iter().flat_map(|root| index_entries(root, self.tag.as_deref())) {
            let name = &entry["annotations"][REF_NAME];
            let is_replaced = |old: &Value| match name {
                Value::Null => old["digest"] == entry["digest"] && old["annotations"][REF_NAME].is_null(),
                name => old["annotations"][REF_NAME] == *name,
            };
            entries.retain(|old| !is_replaced(old));
            entries.push(entry);
        }
        let bytes = serde_json::to_vec(&index).expect("JSON values serialise");
        Ok(atomic::write(&self.folder.join(INDEX_FILE), &bytes, 0o666, Durability::Durable)?)
    }
}

/// The entries of `index.json` for a root: one a name, or one without a name. A `tag` stands for all names.
pub(super) fn index_entries(root: &Root, tag: Option<&str>) -> Vec<Value> {
    let bare = Descriptor { annotations: None, urls: None, ..root.descriptor.clone() };
    let bare = serde_json::to_value(bare).expect("a descriptor has string keys only");
    let named = |annotations: Value| {
        let mut entry = bare.clone();
        entry["annotations"] = annotations;
        entry
    };
    match tag {
        Some(tag) => vec![named(json!({REF_NAME: tag}))],
        None if root.names.is_empty() => vec![bare],
        None => {
            let full_names = root.names.iter().map(ToString::to_string);
            full_names.map(|name| named(json!({REF_NAME: name, IMAGE_NAME: name}))).collect()
        }
    }
}
