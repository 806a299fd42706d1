//! A layer becomes a folder that overlayfs can stack (OCI image-spec, `layer.md`, "Applying Changesets").
//!
//! Invariant: a whiteout acts on lower layers only. Whatever its place in the tar, it neither removes nor hides what
//! the same layer brings; a folder that a layer both removes and brings is opaque.

use std::ffi::OsStr;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use carrack_oci::{DiffId, Hasher, VerifyingReader};
use carrack_sys::rooted::{FileType, Place, Root};
use carrack_sys::tree::Usage;

use crate::bounded::{Bounded, too_large};
use crate::path::{Meaning, checked_path};
use crate::tar::{Entry, Reader};
use crate::unpack::{LinksBelow, Made, Rules, Unpacker, unpacking};
use crate::{OPAQUE_XATTR, Result};

/// Bounds of an apply.
#[derive(Clone, Copy, Debug)]
pub struct ApplyOptions {
    /// The most bytes that the uncompressed tar may have.
    pub max_size_bytes: u64,
    /// Owner of everything, in place of what the tar says.
    pub owner: Option<(u32, u32)>,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self { max_size_bytes: u64::MAX, owner: None }
    }
}

/// What was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The digest of the uncompressed tar, to be compared with what the image's config says.
    pub diff_id: DiffId,
    /// The length of the uncompressed tar.
    pub size_bytes: u64,
    /// Folders that the layer needs and does not describe, outermost first; the empty path is the root. They were
    /// made with mode 0755, and get the metadata of the parent chain when the layer is stacked.
    pub implicit_dirs: Vec<PathBuf>,
    /// Hardlinks to files of lower layers, which the layer cannot be seen right without.
    pub links_below: LinksBelow,
    /// The length of all files and the number of inodes that the layer brought.
    pub usage: Usage,
    /// The layer hides all that is below it.
    pub is_opaque: bool,
}

/// Applies an uncompressed tar to `target`, an empty folder; reads it to its end.
///
/// Whiteouts become what overlayfs understands: character devices 0:0, and [`OPAQUE_XATTR`]. Nothing is synced. After
/// an error the target holds some part of the layer, and is to be removed.
pub fn apply(tar: impl Read, target: &Root, options: &ApplyOptions) -> Result<Applied> {
    let limit_bytes = options.max_size_bytes;
    let source = Bounded::new(VerifyingReader::new(tar, Hasher::sha256()), limit_bytes);
    let mut layer = LayerTarget {
        unpacker: Unpacker::new(target, Rules { is_layer: true, chown: options.owner }),
        is_opaque: false,
    };
    let (source, is_opaque, made) = layer_entries(Reader::new(source).accept_sparse(), &mut layer)
        .and_then(|source| Ok((source, layer.is_opaque, layer.unpacker.finish()?)))
        .map_err(|error| too_large(error, limit_bytes))?;
    let (digest, size_bytes) = source.into_inner().inner.finish();
    let Made { implicit_dirs, links_below, usage } = made;
    Ok(Applied { diff_id: DiffId(digest), size_bytes, implicit_dirs, links_below, usage, is_opaque })
}

fn layer_entries<R: BufRead>(mut reader: Reader<R>, layer: &mut LayerTarget<'_>) -> Result<R> {
    while let Some(entry) = reader.next_entry()? {
        layer.apply_entry(&entry, &mut reader)?;
    }
    reader.finish()
}

struct LayerTarget<'root> {
    unpacker: Unpacker<'root>,
    is_opaque: bool,
}

impl LayerTarget<'_> {
    fn apply_entry(&mut self, entry: &Entry, reader: &mut Reader<impl BufRead>) -> Result<()> {
        let path = checked_path(&entry.path)?;
        match Meaning::of(&path)? {
            Meaning::Entry => self.unpacker.unpack(&path, entry, reader),
            Meaning::Whiteout(name) => {
                let folder = self.unpacker.enter_parent(&path)?;
                folder.is_changed = true;
                white_out(&folder.place(name, &path)).map_err(unpacking(&path))
            }
            Meaning::Opaque => {
                self.is_opaque |= path.parent() == Some(Path::new(""));
                let folder = self.unpacker.enter_parent(&path)?;
                mark_opaque(&folder.place(OsStr::new("."), &path)).map_err(unpacking(&path))
            }
            Meaning::Nothing => Ok(()),
        }
    }
}

fn white_out(place: &Place<'_>) -> carrack_sys::Result<()> {
    match place.metadata()? {
        None => place.create_node(FileType::CharacterDevice, 0, 0),
        Some(own) if own.is_dir() => mark_opaque(place),
        Some(_) => Ok(()), // it hides what is below already
    }
}

fn mark_opaque(place: &Place<'_>) -> carrack_sys::Result<()> {
    place.set_xattr(OsStr::new(OPAQUE_XATTR), b"y")
}
