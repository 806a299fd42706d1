//! Mounts of images that users look at, in the mount namespace of the command.
//!
//! ```text
//! <runroot>/image-mounts/<hex of the image's ID>/   where it is mounted; its view has the key user-image-<hex>
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use carrack_image::{Image, ImageRecord};
use carrack_oci::Digest;
use carrack_snapshot::SnapshotKey;
use carrack_sys::{IoContext, atomic};
use rustix::mount::{UnmountFlags, unmount};

use crate::error::OperationContext;
use crate::user_snapshots::attach_at;
use crate::{Engine, Error, Result};

/// A mounted image.
#[derive(Clone, Debug)]
pub struct ImageMounted {
    /// The image's ID.
    pub id: Digest,
    /// One of its names.
    pub name: Option<String>,
    /// Where.
    pub path: PathBuf,
}

impl Engine {
    /// Mounts an image read only, and returns where; one that is mounted stays where it is.
    pub fn mount_image(&self, name: &str) -> Result<ImageMounted> {
        let _operation = self.operation()?;
        let record = self.images.find(name).operation("mount image", name)?.record;
        self.mount_record(&record).operation("mount image", name)
    }

    fn mount_record(&self, record: &ImageRecord) -> Result<ImageMounted> {
        let path = self.image_mount_path(record.id());
        let mounted = self.mounted(record, path.clone());
        if mount_points_below(&path)?.contains(&path) {
            return Ok(mounted);
        }
        let image = Image::load(&self.content, &record.manifest)?;
        let top = self.ensure_image(&image)?;
        let top = top.ok_or_else(|| Error::refused("the image has no layers", "there is nothing to see"))?;
        let key = view_key(record.id())?;
        let view = match self.snapshots.view(&key, &top) {
            // Of a mount that has gone with its namespace, or with the boot.
            Err(carrack_snapshot::Error::Exists { .. }) => self.snapshots.mount(&key)?,
            view => view?,
        };
        atomic::create_private_dir(&path)?;
        attach_at(&view, &path, None)?;
        Ok(mounted)
    }

    /// The images that are mounted here.
    pub fn mounted_images(&self) -> Result<Vec<ImageMounted>> {
        let folder = self.environment.paths.runroot.join("image-mounts");
        let points = mount_points_below(&folder)?;
        let mut found: Vec<ImageMounted> = Vec::new();
        for record in self.images.list()? {
            let path = self.image_mount_path(record.id());
            if points.contains(&path) && !found.iter().any(|known| known.path == path) {
                found.push(self.mounted(&record, path));
            }
        }
        Ok(found)
    }

    /// Unmounts an image; returns its ID.
    pub fn unmount_image(&self, name: &str) -> Result<Digest> {
        let _operation = self.operation()?;
        let record = self.images.find(name).operation("unmount image", name)?.record;
        self.unmount_record(&record).operation("unmount image", name)?;
        Ok(record.id().clone())
    }

    fn unmount_record(&self, record: &ImageRecord) -> Result<()> {
        let path = self.image_mount_path(record.id());
        let is_mounted = mount_points_below(&path)?.contains(&path);
        if is_mounted {
            unmount(&path, UnmountFlags::NOFOLLOW).during("unmount", &path)?;
        }
        let _ = fs::remove_dir(&path);
        self.discard_snapshot(&view_key(record.id())?)?;
        match is_mounted {
            true => Ok(()),
            false => Err(Error::refused("it is not mounted", "")),
        }
    }

    /// Refuses when an image is mounted; forgets a mount that has gone with its namespace.
    pub(crate) fn refuse_if_mounted(&self, id: &Digest) -> Result<()> {
        let path = self.image_mount_path(id);
        if mount_points_below(&path)?.contains(&path) {
            let message = format!("image is in use by a mount at {}", path.display());
            return Err(Error::refused(message, "unmount it first: carrack image unmount"));
        }
        self.discard_snapshot(&view_key(id)?)
    }

    fn image_mount_path(&self, id: &Digest) -> PathBuf {
        self.environment.paths.runroot.join("image-mounts").join(id.hex())
    }

    fn mounted(&self, record: &ImageRecord, path: PathBuf) -> ImageMounted {
        let name = record.reference.as_ref().map(ToString::to_string);
        ImageMounted { id: record.id().clone(), name, path }
    }
}

fn view_key(id: &Digest) -> Result<SnapshotKey> {
    Ok(SnapshotKey::new(&format!("user-image-{}", id.hex()))?)
}

/// The places in this mount namespace, at or below `folder`, that something is mounted on.
fn mount_points_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let table = "/proc/self/mountinfo";
    let text = fs::read_to_string(table).during("read", table)?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    Ok(points.filter(|point| point.starts_with(folder)).collect())
}

/// A place in this mount namespace where the folder `upper` is bound, or is the source of what is mounted.
pub(crate) fn mount_of(upper: &Path) -> Result<Option<PathBuf>> {
    let table = "/proc/self/mountinfo";
    let text = fs::read_to_string(table).during("read", table)?;
    let point = text.lines().find_map(|line| {
        let (own, others) = line.split_once(" - ")?;
        let (mut own, source) = (own.split(' '), unescaped(others.split(' ').nth(1)?));
        let (root, point) = (unescaped(own.nth(3)?), unescaped(own.next()?));
        // The root of a bound folder is its path below the mount that it is on.
        let bound = root.strip_prefix("/").ok().filter(|root| root.components().count() > 2);
        (source == upper || bound.is_some_and(|root| upper.ends_with(root))).then_some(point)
    });
    Ok(point)
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    PathBuf::from(escapes.iter().fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain)))
}
