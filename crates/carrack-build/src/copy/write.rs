//! Writing files into the file system of an image.
//!
//! Invariant: the destination is resolved within the root, links followed; below it no link is followed. So neither
//! a link in the image nor one in the context leads a write anywhere else.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::rooted::{FileType, Place, Root};
use rustix::fs::{fstat, futimens};

use super::ModeChange;
use crate::select::Selection;
use crate::tree::{Entry, EntryKind, OpenFolders, Tree, identity, resolve};
use crate::{Error, Result};

/// A destination, as the instruction gives it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Absolute in the image.
    pub(crate) path: PathBuf,
    /// Whether it must be a folder: it ends with `/`, or is `.`.
    pub(crate) is_folder: bool,
}

/// Writes into one root.
pub(crate) struct Writer<'a> {
    pub(crate) root: &'a Root,
    /// `--chown`; `None` keeps the owner of the source.
    pub(crate) owner: Option<(u32, u32)>,
    /// `--chmod`
    pub(crate) mode: Option<ModeChange>,
    /// No time that is written is later.
    pub(crate) timestamp_unix: i64,
}

impl Writer<'_> {
    /// Makes a folder with its missing parents, each 0755 and owned as the copy is; returns it with its canonical
    /// path.
    pub(crate) fn folder(&self, path: &Path) -> Result<(OwnedFd, PathBuf)> {
        let (uid, gid) = self.owner.unwrap_or((0, 0));
        let mut made = Vec::new();
        let folder = self.root.walk(path, &mut |place| {
            place.create_dir(0o755)?;
            place.set_mode(0o755)?;
            place.set_owner(uid, gid)?;
            made.push(place.path().to_owned());
            Ok(())
        })?;
        for path in made.iter().rev() {
            self.root.at(path)?.set_mtime((self.timestamp_unix, 0))?;
        }
        Ok(folder)
    }

    /// Whether a destination is a folder already.
    pub(crate) fn is_folder(&self, target: &Target) -> Result<bool> {
        Ok(target.is_folder || self.root.metadata(&target.path)?.is_some_and(|metadata| metadata.is_dir()))
    }

    /// Copies what one source named.
    pub(crate) fn copy(&self, tree: &Tree<'_>, selection: &Selection, target: &Target) -> Result<()> {
        if selection.is_folder {
            return self.copy_folder(tree, selection, &target.path);
        }
        let Some(entry) = selection.entries.first() else { return Ok(()) };
        let (folder, name) = self.file_place(target, &selection.name)?;
        let place = Place::borrowed(folder.as_fd(), &name, &target.path);
        let source = tree.root.at(&selection.base)?;
        self.entry(tree, entry, &source, &place)
    }

    /// Writes a file that the Dockerfile or the network gives.
    pub(crate) fn file(&self, content: &mut dyn io::Read, target: &Target, new: &NewFile<'_>) -> Result<()> {
        let (folder, name) = self.file_place(target, new.name)?;
        let place = Place::borrowed(folder.as_fd(), &name, &target.path);
        self.make_way(&place)?;
        let mut file = place.create_file(0o600)?;
        io::copy(content, &mut file).during("write", &target.path)?;
        file.flush().during("write", &target.path)?;
        self.finish_file(&place, new.mode, (0, 0), (self.timestamp_unix, 0))
    }

    /// The folder and the name of a file that goes to `target`; a link that stands there is followed.
    fn file_place(&self, target: &Target, name: &OsStr) -> Result<(OwnedFd, std::ffi::OsString)> {
        let mut path = target.path.clone();
        if self.is_folder(target)? {
            path.push(name);
        } else if let Some(found) = resolve(self.root, &path)? {
            // A link as the whole destination is followed; one found in a destination folder is replaced.
            path = Path::new("/").join(found);
        }
        let file_name =
            path.file_name().ok_or_else(|| Error::invalid("the destination is the root folder"))?;
        let (folder, _) = self.folder(path.parent().unwrap_or(Path::new("/")))?;
        Ok((folder, file_name.to_owned()))
    }

    fn copy_folder(&self, tree: &Tree<'_>, selection: &Selection, target: &Path) -> Result<()> {
        let existed = self.root.metadata(target)?.is_some();
        let (base, canonical) = self.folder(target)?;
        if !existed && let Some(mode) = &self.mode {
            // The new folder stands for the one that is copied; folders above it stay 0755.
            self.root.at(&canonical)?.set_mode(mode.apply(0o755, true))?;
        }
        let target_root = Root::from_fd(base.try_clone().during("copy to", target)?, target);
        let mut sources = OpenFolders::new(open_base(tree, &selection.base)?);
        let mut targets = OpenFolders::new(base);
        let mut hardlinks: HashMap<(u64, u64), PathBuf> = HashMap::new();
        let mut folders = Vec::new();
        for entry in &selection.entries {
            let parent = entry.path.parent().unwrap_or(Path::new(""));
            let name = entry.path.file_name().unwrap_or_default();
            let place = Place::borrowed(targets.enter(parent)?, name, &entry.path);
            let source = Place::borrowed(sources.enter(parent)?, name, &entry.path);
            if entry.kind == EntryKind::Folder {
                folders.push(entry);
            }
            let shared = entry.kind == EntryKind::File && entry.links > 1;
            let inode = (entry.identity.device, entry.identity.inode);
            match hardlinks.get(&inode).filter(|_| shared) {
                Some(first) => {
                    self.make_way(&place)?;
                    place.create_hardlink(&target_root.at(first)?)?;
                }
                None => self.entry(tree, entry, &source, &place)?,
            }
            if shared {
                hardlinks.entry(inode).or_insert_with(|| entry.path.clone());
            }
        }
        // A folder's time changes with each name that is put into it, so it is set last.
        let mut targets =
            OpenFolders::new(target_root.as_fd().try_clone_to_owned().during("copy to", target)?);
        for entry in folders {
            let time = self.time(tree, entry);
            futimens(targets.enter(&entry.path)?, &times(time)).during("set the time of", &entry.path)?;
        }
        Ok(())
    }

    /// Copies one entry to a place whose folder exists.
    fn entry(&self, tree: &Tree<'_>, entry: &Entry, source: &Place<'_>, place: &Place<'_>) -> Result<()> {
        let owner = if tree.is_context { (0, 0) } else { entry.owner };
        let time = self.time(tree, entry);
        match &entry.kind {
            EntryKind::Folder => {
                match place.metadata()? {
                    None => place.create_dir(0o700)?,
                    Some(metadata) if metadata.is_dir() => {}
                    Some(_) => {
                        return Err(Error::invalid(format!(
                            "cannot put the folder {} over a file",
                            place.path().display()
                        )));
                    }
                }
                let (uid, gid) = self.owner.unwrap_or(owner);
                place.set_owner(uid, gid)?;
                place.set_mode(self.mode.as_ref().map_or(entry.mode, |mode| mode.apply(entry.mode, true)))?;
            }
            EntryKind::File => {
                self.make_way(place)?;
                self.copy_content(entry, source, place)?;
                self.finish_file(place, entry.mode, owner, time)?;
            }
            EntryKind::Link(target) => {
                self.make_way(place)?;
                place.create_symlink(target)?;
                let (uid, gid) = self.owner.unwrap_or(owner);
                place.set_owner(uid, gid)?;
                place.set_mtime(time)?;
            }
            EntryKind::Node(kind, device) => {
                if tree.is_context && *kind != FileType::Fifo {
                    return Err(Error::invalid(format!(
                        "{} is a device: {} may not have one",
                        entry.path.display(),
                        tree.place
                    )));
                }
                self.make_way(place)?;
                place.create_node(*kind, 0o600, *device)?;
                self.finish_file(place, entry.mode, owner, time)?;
            }
        }
        if tree.is_context { Ok(()) } else { copy_xattrs(entry, source, place) }
    }

    /// Removes the file or link that a new file replaces; a folder is never replaced.
    fn make_way(&self, place: &Place<'_>) -> Result<()> {
        match place.metadata()? {
            None => Ok(()),
            Some(metadata) if metadata.is_dir() => {
                Err(Error::invalid(format!("cannot put a file over the folder {}", place.path().display())))
            }
            Some(_) => Ok(place.remove()?),
        }
    }

    fn copy_content(&self, entry: &Entry, source: &Place<'_>, place: &Place<'_>) -> Result<()> {
        let mut from = source.open_file()?;
        let mut to: File = place.create_file(0o600)?;
        io::copy(&mut from, &mut to).during("copy", place.path())?;
        // The cache key was made of what the listing saw, so the copy must be of the same.
        if identity(&fstat(&from).during("examine", source.path())?) != entry.identity {
            return Err(Error::SourceChanged { path: source.path().to_owned() });
        }
        Ok(())
    }

    /// Owner before mode: a change of owner takes set-id bits away.
    fn finish_file(&self, place: &Place<'_>, mode: u32, owner: (u32, u32), time: (i64, u32)) -> Result<()> {
        let (uid, gid) = self.owner.unwrap_or(owner);
        place.set_owner(uid, gid)?;
        place.set_mode(self.mode.as_ref().map_or(mode, |change| change.apply(mode, false)))?;
        Ok(place.set_mtime(time)?)
    }

    /// What lies in a context has the time of a checkout or an editor: no input, so it must not reach the layer.
    fn time(&self, tree: &Tree<'_>, entry: &Entry) -> (i64, u32) {
        let timestamp = (self.timestamp_unix, 0);
        if tree.is_context { timestamp } else { entry.identity.mtime.min(timestamp) }
    }
}

/// Name and mode of a file that does not come from a tree.
pub(crate) struct NewFile<'a> {
    pub(crate) name: &'a OsStr,
    pub(crate) mode: u32,
}

fn open_base(tree: &Tree<'_>, base: &Path) -> Result<OwnedFd> {
    Ok(tree.root.open_dir(base)?.as_fd().try_clone_to_owned().during("open the folder", base)?)
}

fn times((seconds, nanoseconds): (i64, u32)) -> rustix::fs::Timestamps {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    rustix::fs::Timestamps { last_access: time, last_modification: time }
}

/// Capabilities and the user's own attributes go with a file from one stage to another; what belongs to the file
/// system (`trusted.overlay.*`) or to the host (`security.selinux`, `security.ima`) does not.
fn copy_xattrs(entry: &Entry, source: &Place<'_>, place: &Place<'_>) -> Result<()> {
    if matches!(entry.kind, EntryKind::Link(_)) {
        return Ok(());
    }
    for name in source.xattr_names()? {
        let text = name.to_string_lossy();
        let passes =
            text == "security.capability" || text.starts_with("user.") && !text.starts_with("user.overlay.");
        if passes && let Some(value) = source.xattr(&name)? {
            place.set_xattr(&name, &value)?;
        }
    }
    Ok(())
}
