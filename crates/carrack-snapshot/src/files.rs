//! Folders that look like others: roots of snapshots, and copies of single names.
//!
//! Invariant: owner, mode, attributes that layers carry and time are set in the order in which none undoes another.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use carrack_layer::is_layer_xattr;
use carrack_sys::IoContext;
use carrack_sys::rooted::{FileType, Metadata, Place, Root};
use rustix::io::Errno;

use crate::Result;
use crate::record::RootFolder;

/// The mode of the root of a file system whose layers do not say otherwise.
pub(crate) const ROOT_MODE: u32 = 0o755;

/// Makes the folder for the files of a snapshot. It is the root of what a mount shows, so it looks like that of the
/// parent.
pub(crate) fn make_files_folder(path: &Path, parent: Option<&Path>) -> Result<()> {
    fs::create_dir(path).during("create the folder", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(ROOT_MODE)).during("set the mode of", path)?;
    let folder = Root::open(path)?;
    match parent {
        None => Ok(folder.at("")?.set_mtime((0, 0))?),
        Some(parent) => copy_folder_metadata(&Root::open(parent)?.at("")?, &folder.at("")?),
    }
}

/// Makes one folder look like another: owner, mode, attributes that layers carry, time.
pub(crate) fn copy_folder_metadata(source: &Place<'_>, target: &Place<'_>) -> Result<()> {
    match source.metadata()?.filter(Metadata::is_dir) {
        Some(metadata) => copy_metadata(source, &metadata, target),
        None => Ok(()),
    }
}

fn copy_metadata(source: &Place<'_>, metadata: &Metadata, target: &Place<'_>) -> Result<()> {
    target.set_owner(metadata.uid, metadata.gid)?;
    if metadata.kind != FileType::Symlink {
        target.set_mode(metadata.mode)?;
        for name in source.xattr_names()?.iter().filter(|name| is_layer_xattr(name)) {
            if let Some(value) = source.xattr(OsStr::new(name))? {
                target.set_xattr(name, &value)?;
            }
        }
    }
    Ok(target.set_mtime(metadata.mtime)?)
}

impl RootFolder {
    /// Makes a new folder that looks like this.
    pub fn create(&self, path: &Path) -> Result<()> {
        fs::create_dir(path).during("create the folder", path)?;
        let folder = Root::open(path)?;
        let place = folder.at("")?;
        if (self.uid, self.gid) != (0, 0) {
            place.set_owner(self.uid, self.gid)?;
        }
        place.set_mode(self.mode)?;
        for (name, value) in &self.xattrs {
            place.set_xattr(OsStr::new(name), value)?;
        }
        Ok(place.set_mtime(self.mtime)?)
    }
}

impl Default for RootFolder {
    fn default() -> Self {
        Self { mode: ROOT_MODE, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new() }
    }
}

/// Copies names one after the other into a tree; what had several names has them again.
pub(crate) struct Copier<'root> {
    target: &'root Root,
    first_names: HashMap<(u64, u64), PathBuf>,
    /// Folders get their metadata at the end: what is made in them changes their time.
    folders: Vec<PathBuf>,
}

impl<'root> Copier<'root> {
    pub fn new(target: &'root Root) -> Self {
        Self { target, first_names: HashMap::new(), folders: Vec::new() }
    }

    /// Copies everything below `source`.
    pub fn copy_tree(mut self, source: &Root) -> Result<()> {
        carrack_sys::tree::walk(source, |place| {
            self.copy(place)?;
            Ok::<_, crate::Error>(true)
        })?;
        self.finish(source)
    }

    /// Copies one name to the same path; its folder is there already.
    pub fn copy(&mut self, source: &Place<'_>) -> Result<()> {
        let Some(metadata) = source.metadata()? else { return Ok(()) };
        let target = self.target.at(source.path())?;
        if !metadata.is_dir() && metadata.links > 1 {
            if let Some(first) = self.first_names.get(&metadata.inode) {
                return Ok(target.create_hardlink(&self.target.at(first)?)?);
            }
            self.first_names.insert(metadata.inode, source.path().to_owned());
        }
        if metadata.is_dir() {
            target.create_dir(0o700)?;
            self.folders.push(source.path().to_owned());
            return Ok(());
        }
        copy_single(source, &metadata, &target)
    }

    /// Completes the folders, the innermost first.
    pub fn finish(self, source: &Root) -> Result<()> {
        for path in self.folders.iter().rev() {
            copy_folder_metadata(&source.at(path)?, &self.target.at(path)?)?;
        }
        Ok(())
    }
}

/// Copies what is no folder; a socket, which no layer has, is left out.
pub(crate) fn copy_single(source: &Place<'_>, metadata: &Metadata, target: &Place<'_>) -> Result<()> {
    match metadata.kind {
        FileType::RegularFile => copy_content(source, target)?,
        FileType::Symlink => target.create_symlink(source.read_link()?)?,
        FileType::Directory | FileType::Socket | FileType::Unknown => return Ok(()),
        kind => target.create_node(kind, 0o600, metadata.device)?,
    }
    copy_metadata(source, metadata, target)
}

/// Shares the blocks of a file where the file system can, and copies them where it cannot.
fn copy_content(source: &Place<'_>, target: &Place<'_>) -> Result<()> {
    let mut from = source.open_file()?;
    let mut to = target.create_file(0o600)?;
    match rustix::fs::ioctl_ficlone(&to, &from) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::XDEV | Errno::NOTTY | Errno::NOSYS) => {
            std::io::copy(&mut from, &mut to).during("copy to", target.path())?;
            Ok(())
        }
        Err(error) => Ok(Err(error).during("copy to", target.path())?),
    }
}
