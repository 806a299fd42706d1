//! The name registry: one symlink per name, unique across processes. It points to nothing: its target is the id's bytes
//! in Base64 (RFC 4648, section 5), which is short enough for an inode. One with the digits would take a block of the disk.
//!
//! Invariant: a name belongs to the container that its link points to *and* whose record has this name. A symlink is
//! made whole or not at all, and only if the name is free, so it is the point at which a container begins to exist.
//! A link that no longer belongs to anybody (power loss, a rename cut short) is free for the taking.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use carrack_sys::lock::Lock;
use carrack_sys::{IoContext, atomic, tree};

use crate::{ContainerId, ContainerName, Error, Result};

const LOCK: &str = ".lock";

/// What is in the folder of names.
#[derive(Default)]
pub(crate) struct Look {
    pub(crate) links: Vec<(ContainerName, ContainerId)>,
    /// What is no link from a name to an id.
    pub(crate) strays: Vec<PathBuf>,
}

/// The folder of names.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    folder: PathBuf,
}

impl Names {
    pub(crate) fn open(folder: PathBuf) -> Result<Self> {
        atomic::create_private_dir(&folder)?;
        Ok(Self { folder })
    }

    /// The container that a name's link points to, if there is a link.
    pub(crate) fn get(&self, name: &ContainerName) -> Result<Option<ContainerId>> {
        let link = self.link(name);
        match fs::read_link(&link) {
            Ok(target) => parse_target(&target).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).during("read the link", link)?,
        }
    }

    /// Gives a free name to a container; durable when `durable`. `is_free` says of the container that a link points
    /// to whether it has given the name up without taking the link away.
    pub(crate) fn claim(
        &self,
        name: &ContainerName,
        id: &ContainerId,
        durable: bool,
        is_free: impl Fn(&ContainerId) -> Result<bool>,
    ) -> Result<()> {
        let link = self.link(name);
        loop {
            match symlink(target(id), &link) {
                Ok(()) if durable => return Ok(atomic::sync_parent(&link)?),
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => self.take_back(name, &is_free)?,
                Err(error) => Err(error).during("create the link", &link)?,
            }
        }
    }

    /// Gives the name back if it is this container's.
    pub(crate) fn release(&self, name: &ContainerName, id: &ContainerId) -> Result<()> {
        if self.get(name)?.as_ref() == Some(id) {
            atomic::remove_file(&self.link(name))?;
        }
        Ok(())
    }

    /// Every name that has a link, with the container that it points to.
    pub(crate) fn list(&self) -> Result<Vec<(ContainerName, ContainerId)>> {
        Ok(self.look()?.links)
    }

    /// The same, and what is no name of a container: anything but a link from a name to an id.
    pub(crate) fn look(&self) -> Result<Look> {
        let mut look = Look::default();
        for entry in fs::read_dir(&self.folder).during("list", &self.folder)? {
            let entry = entry.during("list", &self.folder)?;
            let text = entry.file_name();
            if text == LOCK {
                continue;
            }
            let name = text.to_str().and_then(|text| text.parse::<ContainerName>().ok());
            match name.map(|name| (self.get(&name), name)) {
                Some((Ok(Some(id)), name)) => look.links.push((name, id)),
                Some((Ok(None), _)) => {} // given back meanwhile
                Some((Err(_), _)) | None => look.strays.push(entry.path()),
            }
        }
        Ok(look)
    }

    /// Makes the name's link point to `id`, whatever stands in its place.
    pub(crate) fn restore(&self, name: &ContainerName, id: &ContainerId) -> Result<()> {
        let _lock = Lock::exclusive(&self.folder.join(LOCK))?;
        let link = self.link(name);
        tree::remove_tree(&link)?;
        symlink(target(id), &link).during("create the link", &link)?;
        Ok(atomic::sync_parent(&link)?)
    }

    /// Removes the link of a name that is free, else fails with its owner.
    pub(crate) fn take_back(
        &self,
        name: &ContainerName,
        is_free: impl Fn(&ContainerId) -> Result<bool>,
    ) -> Result<()> {
        // Two processes that both find the name free must not remove each other's new link.
        let _lock = Lock::exclusive(&self.folder.join(LOCK))?;
        let Some(owner) = self.get(name)? else { return Ok(()) };
        match is_free(&owner)? {
            true => Ok(atomic::remove_file(&self.link(name))?),
            false => Err(Error::NameTaken { name: name.to_string(), owner }),
        }
    }

    pub(crate) fn link(&self, name: &ContainerName) -> PathBuf {
        self.folder.join(name.as_str())
    }
}

fn target(id: &ContainerId) -> String {
    URL_SAFE_NO_PAD.encode(id.bytes())
}

fn parse_target(target: &Path) -> Result<ContainerId> {
    let decoded = target.to_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let bytes = decoded.and_then(|bytes| bytes.try_into().ok());
    bytes.map(ContainerId::from_bytes).ok_or_else(|| Error::InvalidId { text: target.display().to_string() })
}
