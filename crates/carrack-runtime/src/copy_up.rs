//! `tmpcopyup`: what the image has at a place is copied into the new filesystem that covers it.
//!
//! Invariant: nothing is followed: links are copied as links, and no mount is entered.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::rooted::{Metadata, Place, Root};
use carrack_sys::tree;
use rustix::fs::FileType;

use crate::{Error, Result};

/// Copies the folder `image` (an `O_PATH` descriptor) into `filesystem`; a file there is no folder to copy.
pub(crate) fn copy(image: BorrowedFd<'_>, filesystem: BorrowedFd<'_>, destination: &Path) -> Result<()> {
    let owned = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().during("duplicate the handle of", destination);
    let (source, target) =
        (Root::from_fd(owned(image)?, destination), Root::from_fd(owned(filesystem)?, "/"));
    let Some(top) = source.at("")?.metadata()?.filter(Metadata::is_dir) else { return Ok(()) };
    let mut folders: Vec<(PathBuf, Metadata)> = vec![(PathBuf::new(), top)];
    tree::walk(&source, |place| {
        let Some(metadata) = place.metadata()? else { return Ok(false) };
        let there = target.at(place.path())?;
        copy_one(place, &metadata, &there)?;
        if metadata.is_dir() {
            folders.push((place.path().to_owned(), metadata));
            return Ok(true);
        }
        if metadata.kind != FileType::Symlink {
            there.set_mode(metadata.mode)?;
        }
        there.set_mtime(metadata.mtime)?;
        Ok::<_, Error>(false)
    })?;
    // Whatever is made in a folder changes its time.
    for (path, metadata) in folders.iter().rev() {
        let folder = target.at(path)?;
        folder.set_owner(metadata.uid, metadata.gid)?;
        folder.set_mode(metadata.mode)?;
        folder.set_mtime(metadata.mtime)?;
    }
    Ok(())
}

fn copy_one(place: &Place<'_>, metadata: &Metadata, there: &Place<'_>) -> Result<()> {
    match metadata.kind {
        FileType::Directory => return Ok(there.create_dir(0o700)?),
        FileType::Symlink => there.create_symlink(place.read_link()?)?,
        FileType::RegularFile => {
            let mut source = place.open_file()?;
            io::copy(&mut source, &mut there.create_file(0o600)?).during("copy", place.path())?;
        }
        kind => there.create_node(kind, metadata.mode, metadata.device)?,
    }
    there.set_owner(metadata.uid, metadata.gid)?;
    for name in place.xattr_names()? {
        let is_copied = name.as_encoded_bytes().starts_with(b"user.") || name == "security.capability";
        if let Some(value) = place.xattr(&name)?.filter(|_| is_copied) {
            there.set_xattr(&name, &value)?;
        }
    }
    Ok(())
}
