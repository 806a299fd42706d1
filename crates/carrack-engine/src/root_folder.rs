//! What a container's root is: its snapshot, or the folder of the host that the user named (`--rootfs`).
//!
//! A folder is shown as it is, so that changes are made to it; or below an overlay, whose upper folder lies with the
//! container and goes with it. Nothing else of a container with a folder differs: its snapshot is there, and empty.

use std::path::PathBuf;

use carrack_container::{ContainerId, ContainerRecord, RootFolder};
use carrack_snapshot::{Lower, Mount, SnapshotKey};
use carrack_sys::atomic;
use carrack_sys::rooted::Root;

use crate::mount_sources::copy_look;
use crate::{Engine, Error, Result};

impl Engine {
    /// How the root of a container is seen.
    pub(crate) fn root_mount(&self, record: &ContainerRecord) -> Result<Mount> {
        match &record.root_folder {
            None => self.mount_snapshot(&SnapshotKey::new(&record.snapshot)?),
            Some(RootFolder { path, overlay: false }) => {
                require(path.is_dir(), path)?;
                Ok(Mount::Bind { source: path.clone(), read_only: false })
            }
            Some(RootFolder { path, overlay: true }) => {
                require(path.is_dir(), path)?;
                let [upper, work] = self.overlay_folders(&record.id);
                if !upper.exists() {
                    atomic::create_private_dir(&work)?;
                    atomic::create_private_dir(&upper)?;
                    copy_look(&Root::open(path)?, &Root::open(&upper)?)?;
                }
                let lowers = vec![Lower::Folder(path.clone())];
                Ok(Mount::Overlay { lowers, upper: Some(upper), work: Some(work), volatile: false })
            }
        }
    }

    /// Where changes go, and a folder for overlayfs itself.
    fn overlay_folders(&self, id: &ContainerId) -> [PathBuf; 2] {
        ["upper", "work"].map(|name| self.containers.folder(id).join("changes").join(name))
    }
}

fn require(is_folder: bool, path: &std::path::Path) -> Result<()> {
    match is_folder {
        true => Ok(()),
        false => Err(Error::refused(
            format!("the root of the container, {}, is no folder any more", path.display()),
            "put it back, or remove the container",
        )),
    }
}
