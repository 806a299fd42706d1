//! What an active copy changed, found by comparing it with its parent and written as overlayfs would have it in an
//! upper folder: so one function makes layers of either.
//!
//! Invariant: a name is a change when what can be seen of it differs. Contents are compared where the kernel has seen
//! the file change since it was copied, whatever its times and size.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use carrack_layer::{OPAQUE_XATTR, is_layer_xattr};
use carrack_sys::rooted::{FileType, Metadata, Place, Root};
use carrack_sys::{IoContext, tree};
use rustix::fs::{AtFlags, statat};

use crate::Result;
use crate::files::copy_folder_metadata;

const BUFFER_BYTES: usize = 64 << 10;

/// A time of the file system: seconds since 1970 and nanoseconds.
pub(super) type Time = (i64, i64);

/// Fills the empty folder `upper`: files are further names of those in `active`, what is gone is a whiteout. The copy was
/// complete at `copied`.
pub(super) fn collect(parent: Option<&Root>, active: &Root, upper: &Root, copied: Time) -> Result<()> {
    let mut changes = Changes { parent, active, upper, copied, folders: Vec::new(), made: HashSet::new() };
    if let Some(parent) = parent {
        changes.add_removed(parent, Path::new(""))?;
    }
    tree::walk(active, |place| changes.compare(place))?;
    changes.finish()
}

struct Changes<'root> {
    parent: Option<&'root Root>,
    active: &'root Root,
    upper: &'root Root,
    copied: Time,
    /// In the order in which they were made.
    folders: Vec<PathBuf>,
    made: HashSet<PathBuf>,
}

impl Changes<'_> {
    fn compare(&mut self, place: &Place<'_>) -> Result<bool> {
        let Some(metadata) = place.metadata()? else { return Ok(false) };
        let old_place = self.parent.and_then(|parent| parent.at(place.path()).ok());
        let old = old_place.as_ref().map(Place::metadata).transpose()?.flatten();
        let is_same = match (&old_place, &old) {
            (Some(old_place), Some(old)) => {
                is_same((old_place, old), (place, &metadata))?
                    && (metadata.kind != FileType::RegularFile || self.has_same_content(old_place, place)?)
            }
            _ => false,
        };
        if !is_same {
            self.add(place, &metadata, old.as_ref())?;
        }
        if let (Some(parent), true, true) =
            (self.parent, metadata.is_dir(), old.as_ref().is_some_and(Metadata::is_dir))
        {
            self.add_removed(parent, place.path())?;
        }
        Ok(true)
    }

    /// Whether two files of one length have the same bytes.
    fn has_same_content(&self, old: &Place<'_>, new: &Place<'_>) -> Result<bool> {
        let stat =
            statat(new.folder(), new.name(), AtFlags::SYMLINK_NOFOLLOW).during("examine", new.path())?;
        if (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or_default()) < self.copied {
            return Ok(true);
        }
        let open = |place: &Place<'_>| -> Result<BufReader<File>> {
            Ok(BufReader::with_capacity(BUFFER_BYTES, place.open_file()?))
        };
        let (mut old, mut new) = (open(old)?, open(new)?);
        Ok(same_bytes(&mut old, &mut new).during("compare", "a file with its copy")?)
    }

    fn add(&mut self, place: &Place<'_>, metadata: &Metadata, old: Option<&Metadata>) -> Result<()> {
        if metadata.is_dir() {
            self.make_folder(place.path())?;
            if old.is_some_and(|old| !old.is_dir()) {
                let mark = self.upper.at(place.path())?;
                mark.set_xattr(OPAQUE_XATTR.as_ref(), b"y")?;
            }
            return Ok(());
        }
        if metadata.kind == FileType::Socket {
            return Ok(()); // no layer can have one
        }
        self.make_folder(place.path().parent().unwrap_or(Path::new("")))?;
        Ok(self.upper.at(place.path())?.create_hardlink(place)?)
    }

    /// Adds whiteouts for the names of a folder of the parent that are gone.
    fn add_removed(&mut self, parent: &Root, folder: &Path) -> Result<()> {
        let left: HashSet<OsString> = names(&self.active.open_dir(folder)?)?.into_iter().collect();
        for name in names(&parent.open_dir(folder)?)? {
            if !left.contains(&name) {
                self.make_folder(folder)?;
                let place = self.upper.at(folder.join(name))?;
                place.create_node(FileType::CharacterDevice, 0, 0)?;
            }
        }
        Ok(())
    }

    fn make_folder(&mut self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty() || self.made.contains(path) {
            return Ok(());
        }
        self.make_folder(path.parent().unwrap_or(Path::new("")))?;
        self.upper.at(path)?.create_dir(0o700)?;
        self.made.insert(path.to_owned());
        self.folders.push(path.to_owned());
        Ok(())
    }

    /// Folders look like those of the active snapshot only when nothing is made in them any more.
    fn finish(self) -> Result<()> {
        for path in self.folders.iter().rev() {
            copy_folder_metadata(&self.active.at(path)?, &self.upper.at(path)?)?;
        }
        Ok(())
    }
}

fn names(folder: &Root) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    tree::walk(folder, |place| {
        names.push(place.name().to_owned());
        Ok::<_, carrack_sys::Error>(false)
    })?;
    Ok(names)
}

fn is_same(old: (&Place<'_>, &Metadata), new: (&Place<'_>, &Metadata)) -> Result<bool> {
    let seen = |metadata: &Metadata| {
        let size_bytes = if metadata.is_dir() { 0 } else { metadata.size_bytes };
        let Metadata { kind, mode, uid, gid, mtime, device, .. } = *metadata;
        (kind, mode, uid, gid, mtime, device, size_bytes)
    };
    if seen(old.1) != seen(new.1) {
        return Ok(false);
    }
    match new.1.kind {
        FileType::Symlink => Ok(old.0.read_link()? == new.0.read_link()?),
        _ => Ok(xattrs(old.0)? == xattrs(new.0)?),
    }
}

fn same_bytes(one: &mut impl BufRead, other: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let count = left.len().min(right.len());
        if count == 0 {
            return Ok(left.len() == right.len());
        }
        if left[..count] != right[..count] {
            return Ok(false);
        }
        one.consume(count);
        other.consume(count);
    }
}

fn xattrs(place: &Place<'_>) -> Result<Vec<(OsString, Option<Vec<u8>>)>> {
    let names = place.xattr_names()?.into_iter().filter(|name| is_layer_xattr(name));
    names.map(|name| place.xattr(&name).map(|value| (name, value)).map_err(Into::into)).collect()
}
