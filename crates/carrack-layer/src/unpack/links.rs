//! Hardlinks to files that a layer does not have: they are in a layer below, which apply does not know.
//!
//! Invariant: such a link is a socket in the layer's folder until the layer is stacked. No tar brings a socket, so none
//! can be taken for another entry, and each further name of one is the same link.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use carrack_sys::rooted::{FileType, Metadata, Place, Root};

use crate::path::{refused, reversed};
use crate::{Result, is_opaque};

/// The most bytes of paths of targets that are remembered.
const MAX_TARGET_BYTES: usize = 8 << 20;
/// Links are followed in a path as often as the kernel follows them.
const MAX_LINKS: usize = 40;

/// The links of a layer to files of lower layers: a socket stands for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinksBelow {
    /// By file system and number of the socket's inode.
    targets: HashMap<(u64, u64), PathBuf>,
    target_bytes: usize,
}

impl LinksBelow {
    /// Whether there is no such link.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Where the link leads whose socket has this metadata: a path in the layers below. Links of the layer itself that
    /// were on the way are followed; those of lower layers still may be on it.
    pub fn target(&self, socket: &Metadata) -> Option<&Path> {
        let is_socket = socket.kind == FileType::Socket;
        self.targets.get(&socket.inode).filter(|_| is_socket).map(PathBuf::as_path)
    }

    /// Remembers where the link leads whose socket has just been made at `place`.
    pub(super) fn add(&mut self, place: &Place<'_>, target: PathBuf) -> Result<()> {
        let Some(socket) = place.metadata()? else { return Ok(()) };
        self.target_bytes += target.as_os_str().len();
        if self.target_bytes > MAX_TARGET_BYTES {
            let reason = format!(
                "hardlinks to files of lower layers whose paths have more than {MAX_TARGET_BYTES} bytes together"
            );
            return Err(refused(place.path(), reason));
        }
        // A socket that is gone may have left its number to this one.
        self.targets.insert(socket.inode, target);
        Ok(())
    }
}

/// Where `target`, which `layer` does not have, is in the layers below it; `None` where the layer hides these.
pub(super) fn path_below(layer: &Root, target: &Path) -> Result<Option<PathBuf>> {
    let (mut here, mut links) = (PathBuf::new(), 0);
    let mut pending = reversed(target);
    while let Some(name) = pending.pop() {
        if name == b".." {
            here.pop();
            continue;
        }
        let path = here.join(OsStr::from_bytes(&name));
        let place = layer.at(&path)?;
        match place.metadata()? {
            None if hides_below(layer, &here)? => return Ok(None),
            None => {
                let rest: PathBuf = pending.iter().rev().map(|name| OsStr::from_bytes(name)).collect();
                return Ok(Some(if pending.is_empty() { path } else { path.join(rest) }));
            }
            Some(found) if found.is_dir() => here = path,
            Some(found) if found.kind == FileType::Symlink && links < MAX_LINKS => {
                links += 1;
                let target = place.read_link()?;
                if target.is_absolute() {
                    here.clear();
                }
                pending.extend(reversed(&target));
            }
            Some(_) => return Ok(None),
        }
    }
    Ok(None)
}

/// Whether a folder of the layer, or one that it is in, is opaque.
fn hides_below(layer: &Root, folder: &Path) -> Result<bool> {
    for folder in folder.ancestors() {
        if is_opaque(&layer.at(folder)?)? {
            return Ok(true);
        }
    }
    Ok(false)
}
