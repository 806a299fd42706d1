//! Snapshots that users make by hand. Nothing else names them, so they name themselves: active ones by a prefix of their
//! key, committed ones by a file.
//!
//! ```text
//! <root>/snapshots/kept/<algorithm>-<hex>   a committed snapshot that a user has made; says the diff ID of its layer
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use carrack_image::Image;
use carrack_layer::DiffOptions;
use carrack_oci::{ChainId, DiffId};
use carrack_snapshot::{Mount, Opening, SnapshotInfo, SnapshotKey, SnapshotName, Usage};
use carrack_sys::atomic::{self, Durability};
use carrack_sys::{IoContext, mount};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::OperationContext;
use crate::image_mounts::mount_of;
use crate::{Engine, Error, Result};

const PREFIX: &str = "user-";

/// Whether a user has made the active snapshot or view of this key.
pub(crate) fn is_users(key: &SnapshotKey) -> bool {
    key.as_str().starts_with(PREFIX)
}

/// What a user calls a snapshot.
pub fn snapshot_text(name: &SnapshotName) -> String {
    match name {
        SnapshotName::Committed(id) => id.to_string(),
        SnapshotName::Key(key) => key.as_str().strip_prefix(PREFIX).unwrap_or(key.as_str()).to_owned(),
    }
}

/// What a snapshot holds.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotUsage {
    /// The length of its files and the number of its inodes, without those of its parents.
    pub content: Usage,
    /// What it takes on disk: its files, or index and tar, as the file system counts blocks.
    pub disk_bytes: u64,
}

impl Engine {
    /// Every snapshot of this invocation's storage driver, each before its parent.
    pub fn list_snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        Ok(self.snapshots.list()?)
    }

    /// Makes a writable snapshot, or with `view` one to look at, on a committed one or on an image.
    pub fn prepare_snapshot(&self, key: &str, parent: Option<&str>, view: bool) -> Result<()> {
        let _operation = self.operation()?;
        let prepare = || {
            let key = SnapshotKey::new(&format!("{PREFIX}{key}"))?;
            let parent = parent.map(|parent| self.find_parent(parent)).transpose()?;
            match parent.as_ref() {
                Some(parent) if view => self.snapshots.view(&key, parent)?,
                parent => self.snapshots.prepare(&key, parent)?,
            };
            Ok::<_, Error>(())
        };
        prepare().operation("prepare snapshot", key)
    }

    /// What is mounted to see an active snapshot or a view.
    pub fn snapshot_mount(&self, key: &str) -> Result<Mount> {
        let found = self.find_key(key).operation("find snapshot", key)?;
        Ok(self.snapshots.mount(&found)?)
    }

    /// Mounts an active snapshot or a view at a folder, in the caller's mount namespace.
    pub fn mount_snapshot_at(&self, key: &str, target: &Path) -> Result<()> {
        let mounted = self.snapshot_mount(key)?;
        // So that whoever wants to end the snapshot sees that it is mounted.
        let source = mounted.upper().map(|upper| upper.display().to_string());
        attach_at(&mounted, target, source.as_deref()).operation("mount snapshot", key)
    }

    /// Turns an active snapshot into a committed one, and its changes into a layer; returns the chain ID. It must not be
    /// mounted. After a crash it is active still, or committed and kept.
    pub fn commit_snapshot(&self, key: &str) -> Result<ChainId> {
        let _operation = self.operation()?;
        let commit = || {
            let found = self.find_key(key)?;
            self.refuse_if_attached(&found)?;
            let infos = self.snapshots.list()?;
            let info = infos.iter().find(|info| info.key() == Some(&found));
            let parent = info.and_then(|info| info.parent.clone());
            let mut writer = self.content.writer()?;
            let summary = self.snapshots.diff(&found, &DiffOptions::default(), &mut writer)?;
            writer.commit()?;
            let id = ChainId::child(parent.as_ref(), &summary.diff_id);
            // First: what is committed and not kept is garbage, and its user has nothing else left of it.
            self.keep(&id, &summary.diff_id)?;
            self.snapshots.commit(&found, &id, &summary.diff_id)?;
            Ok::<_, Error>(id)
        };
        commit().operation("commit snapshot", key)
    }

    /// Writes what a snapshot changes on its parent as an OCI layer, an uncompressed tar; returns the diff ID. Of an
    /// active one these are its changes so far, of a committed one the layer that it was made of.
    pub fn diff_snapshot(&self, name: &str, out: &mut dyn Write) -> Result<DiffId> {
        self.write_diff(name, out).operation("diff snapshot", name)
    }

    fn write_diff(&self, name: &str, out: &mut dyn Write) -> Result<DiffId> {
        if let Ok(key) = self.find_key(name) {
            return Ok(self.snapshots.diff(&key, &DiffOptions::default(), out)?.diff_id);
        }
        let id = self.find_chain(name)?;
        let (mut tar, layer) = self.layer_of(&id)?;
        io::copy(&mut tar, out).during("copy the layer", layer.to_string())?;
        Ok(layer)
    }

    /// The layer of a committed snapshot: a user has made it, or an image has it.
    fn layer_of(&self, id: &ChainId) -> Result<(Box<dyn io::Read + Send>, DiffId)> {
        if let Some(layer) = self.snapshots.tars_of(id)?.into_iter().next() {
            return Ok((self.open_layer_tar(&layer.0, &layer)?, layer));
        }
        if let Some(layer) = self.kept_snapshots()?.remove(id) {
            return Ok((self.open_layer_tar(&layer.0, &layer)?, layer));
        }
        for record in self.images.list()? {
            let image = Image::load(&self.content, &record.manifest)?;
            if let Some(layer) = image.layers().into_iter().find(|layer| layer.chain_id == *id) {
                let diff_id = layer.diff_id.clone();
                return Ok((self.open_layer_tar(&layer.descriptor.digest, &diff_id)?, diff_id));
            }
        }
        Err(Error::refused("the store has no layer of it", "an active snapshot always has one"))
    }

    /// What a snapshot holds.
    pub fn snapshot_usage(&self, name: &SnapshotName) -> Result<SnapshotUsage> {
        let content = match name {
            SnapshotName::Committed(id) => self.snapshots.usage(id)?,
            SnapshotName::Key(key) => self.snapshots.active_usage(key)?,
        };
        Ok(SnapshotUsage { content, disk_bytes: self.snapshots.disk_bytes(name)? })
    }

    /// The snapshot that a user means: a key, or a chain ID or the beginning of one.
    pub fn find_snapshot(&self, text: &str) -> Result<SnapshotName> {
        match self.find_key(text) {
            Ok(key) => Ok(SnapshotName::Key(key)),
            Err(_) => Ok(SnapshotName::Committed(self.find_chain(text).operation("find snapshot", text)?)),
        }
    }

    /// Removes a snapshot that nothing stands on, and that no container or image has.
    pub fn remove_snapshot(&self, text: &str) -> Result<()> {
        let _operation = self.operation()?;
        let name = self.find_snapshot(text)?;
        self.remove_named(&name).operation("remove snapshot", text)
    }

    fn remove_named(&self, name: &SnapshotName) -> Result<()> {
        match name {
            SnapshotName::Key(key) => {
                let containers = self.containers.list()?;
                let user = containers.iter().find(|container| container.record.snapshot == key.as_str());
                if let Some(container) = user {
                    let name = &container.record.name;
                    let hint = format!("remove the container: carrack rm {name}");
                    return Err(Error::refused(format!("it is in use by container {name}"), hint));
                }
                self.refuse_if_attached(key)?;
                Ok(self.snapshots.discard(key)?)
            }
            SnapshotName::Committed(id) => {
                for record in self.images.list()? {
                    let image = Image::load(&self.content, &record.manifest)?;
                    if image.layers().iter().any(|layer| layer.chain_id == *id) {
                        let message = format!("it is in use by image {}", record.id().short());
                        return Err(Error::refused(message, "remove the image: carrack rmi"));
                    }
                }
                self.snapshots.remove(id)?;
                Ok(atomic::remove_file(&self.kept_path(id))?)
            }
        }
    }

    /// Its files must not go away below a mount in this namespace.
    fn refuse_if_attached(&self, key: &SnapshotKey) -> Result<()> {
        let mount = self.snapshots.mount(key)?;
        let Some(upper) = mount.upper() else { return Ok(()) };
        match mount_of(upper)? {
            None => Ok(()),
            Some(point) => {
                let hint = format!("unmount it first: umount {}", point.display());
                Err(Error::refused(format!("it is mounted at {}", point.display()), hint))
            }
        }
    }

    fn find_key(&self, text: &str) -> Result<SnapshotKey> {
        for text in [format!("{PREFIX}{text}"), text.to_owned()] {
            if let Ok(key) = SnapshotKey::new(&text)
                && self.snapshots.has_key(&key)?
            {
                return Ok(key);
            }
        }
        Err(Error::refused(format!("there is no active snapshot {text}"), "carrack snapshot ls has all"))
    }

    /// A committed snapshot by its chain ID, or by the beginning of one that no other has.
    fn find_chain(&self, text: &str) -> Result<ChainId> {
        let infos = self.snapshots.list()?;
        let wanted = text.strip_prefix("sha256:").unwrap_or(text);
        let is_meant = |id: &&ChainId| wanted.len() >= 2 && id.0.hex().starts_with(wanted);
        let mut found = infos.iter().filter_map(SnapshotInfo::committed).filter(is_meant);
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(id.clone()),
            (Some(_), Some(_)) => Err(Error::refused(
                format!("several snapshots begin with {text}"),
                "give more of the chain ID",
            )),
            (None, _) => {
                Err(Error::refused(format!("there is no snapshot {text}"), "carrack snapshot ls has all"))
            }
        }
    }

    /// A parent: a committed snapshot, or an image, whose snapshots are made if they are missing.
    fn find_parent(&self, text: &str) -> Result<ChainId> {
        match self.images.find(text) {
            Ok(found) => {
                let image = Image::load(&self.content, &found.record.manifest)?;
                let top = self.ensure_image(&image)?;
                top.ok_or_else(|| Error::refused(format!("the image {text} has no layers"), ""))
            }
            Err(carrack_image::Error::NotFound { .. }) => self.find_chain(text),
            Err(error) => Err(error.into()),
        }
    }

    fn kept_folder(&self) -> PathBuf {
        self.snapshots_folder().join("kept")
    }

    fn kept_path(&self, id: &ChainId) -> PathBuf {
        self.kept_folder().join(format!("{}-{}", id.0.algorithm(), id.0.hex()))
    }

    fn keep(&self, id: &ChainId, layer: &DiffId) -> Result<()> {
        atomic::create_private_dir(&self.kept_folder())?;
        let text = layer.to_string();
        Ok(atomic::write(&self.kept_path(id), text.as_bytes(), 0o600, Durability::Durable)?)
    }

    /// Marks of snapshots that are in no store: their commit was cut short. Needs that no operation is at work.
    pub(crate) fn void_marks(&self) -> Result<Vec<PathBuf>> {
        let others = self.other_snapshots()?;
        let stores = self.with_own(&others);
        let mut marks = Vec::new();
        for id in self.kept_snapshots()?.keys() {
            let mut is_there = false;
            for store in &stores {
                is_there |= store.contains(id)?;
            }
            if !is_there {
                marks.push(self.kept_path(id));
            }
        }
        Ok(marks)
    }

    /// The committed snapshots that users have made, with their layers.
    pub(crate) fn kept_snapshots(&self) -> Result<BTreeMap<ChainId, DiffId>> {
        let folder = self.kept_folder();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            entries => entries.during("list", &folder)?,
        };
        let mut kept = BTreeMap::new();
        for entry in entries {
            let path = entry.during("list", &folder)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Ok(id) = name.replacen('-', ":", 1).parse() else { continue };
            let text = atomic::read(&path)?.and_then(|bytes| String::from_utf8(bytes).ok());
            let Some(Ok(layer)) = text.map(|text| text.parse()) else { continue };
            kept.insert(ChainId(id), DiffId(layer));
        }
        Ok(kept)
    }
}

/// Attaches a snapshot's mount at a folder of the caller's mount namespace.
pub(crate) fn attach_at(mounted: &Mount, target: &Path, source: Option<&str>) -> Result<()> {
    use std::os::fd::AsFd;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, target, flags, Mode::empty()).during("open the folder", target)?;
    let opened = mounted.open_with(Opening { source, ..Opening::default() })?;
    Ok(mount::attach(opened.as_fd(), folder.as_fd())?)
}
