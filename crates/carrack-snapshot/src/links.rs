//! Hardlinks of a layer to files of the layers below it, where a layer is a folder of its own.
//!
//! Invariant: what such a link means is decided before the layer changes anything below it, as in
//! [`merge`](carrack_layer::merge()): its file is copied into the layer, where it has every name that the stack shows of
//! it, so that all of them are still one file.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use carrack_layer::{Applied, Error as LayerError, LinksBelow, is_opaque};
use carrack_sys::rooted::{Metadata, Place, Root};
use carrack_sys::tree;

use crate::Result;
use crate::files::{copy_folder_metadata, copy_single};

/// Puts what the links of a layer lead to in their places; `below` shows the layers below it.
pub(crate) fn bring_up(applied: &Applied, layer: &Root, below: Option<&Root>) -> Result<()> {
    if applied.links_below.is_empty() {
        return Ok(());
    }
    let mut files = Files { layer, below, links: &applied.links_below, known: HashMap::new() };
    tree::walk(layer, |place| {
        files.fill(place)?;
        Ok::<_, crate::Error>(true)
    })?;
    match below {
        Some(below) => files.add_other_names(below),
        None => Ok(()),
    }
}

/// The file systems' name of a file.
type Inode = (u64, u64);

/// A file of a lower layer that has come into the layer.
struct Known {
    /// Its first name in the layer.
    first: PathBuf,
    /// The name that a link had for it, without links on the way.
    below: PathBuf,
    has_more_names: bool,
}

struct Files<'a> {
    layer: &'a Root,
    below: Option<&'a Root>,
    links: &'a LinksBelow,
    /// By the inode below.
    known: HashMap<Inode, Known>,
}

impl<'a> Files<'a> {
    /// Makes of the socket that stands for a link what it leads to.
    fn fill(&mut self, place: &Place<'_>) -> Result<()> {
        let Some(socket) = place.metadata()? else { return Ok(()) };
        let Some(target) = self.links.target(&socket) else { return Ok(()) };
        let (source, metadata) = self.find(place.path(), target)?;
        let folder = Kept::of(self.layer, place.path())?;
        place.remove()?;
        match self.known.get(&metadata.inode) {
            Some(known) => place.create_hardlink(&self.layer.at(&known.first)?)?,
            None => {
                copy_single(&source, &metadata, place)?;
                let known = Known {
                    first: place.path().to_owned(),
                    below: source.path().to_owned(),
                    has_more_names: metadata.links > 1,
                };
                self.known.insert(metadata.inode, known);
            }
        }
        folder.put_back(self.layer)
    }

    /// The file below that the link at `path` leads to.
    fn find(&self, path: &Path, target: &Path) -> Result<(Place<'a>, Metadata)> {
        let refused = |reason: String| LayerError::Refused { path: path.to_owned(), reason };
        let absent = || {
            let reason = "which neither its layer before the link nor a layer below has";
            refused(format!("a hardlink to {}, {reason}", target.display()))
        };
        let below = self.below.ok_or_else(absent)?;
        let folder = match below.canonical_dir(target.parent().unwrap_or(Path::new(""))) {
            Err(error) if matches!(error.source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(absent().into());
            }
            folder => folder?,
        };
        let source = below.at(folder.join(target.file_name().unwrap_or_default()))?;
        match source.metadata()? {
            None => Err(absent().into()),
            Some(found) if found.is_dir() => {
                Err(refused(format!("a hardlink to {}, which is a folder", target.display())).into())
            }
            Some(found) => Ok((source, found)),
        }
    }

    /// Gives the files their names below, where the layer does not say otherwise.
    fn add_other_names(&self, below: &Root) -> Result<()> {
        for known in self.known.values().filter(|known| !known.has_more_names) {
            self.add_name(below, &known.below, known)?;
        }
        if !self.known.values().any(|known| known.has_more_names) {
            return Ok(());
        }
        tree::walk(below, |place| {
            let Some(metadata) = place.metadata()? else { return Ok(false) };
            match self.known.get(&metadata.inode) {
                Some(known) if known.has_more_names => self.add_name(below, place.path(), known)?,
                _ => {}
            }
            Ok::<_, crate::Error>(metadata.is_dir())
        })
    }

    fn add_name(&self, below: &Root, path: &Path, known: &Known) -> Result<()> {
        let mut made = Vec::new();
        let mut folders: Vec<&Path> = path.ancestors().skip(1).collect();
        folders.reverse();
        for folder in folders {
            if !made.is_empty() {
                made.push(folder);
                continue;
            }
            let place = self.layer.at(folder)?;
            match place.metadata()? {
                Some(found) if !found.is_dir() || is_opaque(&place)? => return Ok(()),
                Some(_) => {}
                None => made.push(folder),
            }
        }
        let place = match made.is_empty() {
            true if self.layer.at(path)?.metadata()?.is_some() => return Ok(()),
            _ => made.first().copied().unwrap_or(path),
        };
        let folder = Kept::of(self.layer, place)?;
        for folder in &made {
            self.layer.at(folder)?.create_dir(0o700)?;
        }
        self.layer.at(path)?.create_hardlink(&self.layer.at(&known.first)?)?;
        for folder in made.iter().rev() {
            copy_folder_metadata(&below.at(folder)?, &self.layer.at(folder)?)?;
        }
        folder.put_back(self.layer)
    }
}

/// The time of a folder in which something is made.
struct Kept {
    folder: PathBuf,
    mtime: Option<(i64, u32)>,
}

impl Kept {
    /// Of the folder that `path` is in.
    fn of(layer: &Root, path: &Path) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let mtime = layer.at(&folder)?.metadata()?.map(|metadata| metadata.mtime);
        Ok(Self { folder, mtime })
    }

    fn put_back(self, layer: &Root) -> Result<()> {
        match self.mtime {
            Some(mtime) => Ok(layer.at(&self.folder)?.set_mtime(mtime)?),
            None => Ok(()),
        }
    }
}
