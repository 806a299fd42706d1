//! Indexes mounted as the kernel sees them, and whole trees as text.
#![allow(dead_code)] // each test binary uses a part of it

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use carrack_sys::mount::Filesystem;
use carrack_sys::rooted::{FileType, Place, Root};
use carrack_sys::tree;
use rustix::mount::MountAttrFlags;

/// A file without a name that has these bytes.
pub fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    file
}

/// Mounts an index with the tars as its devices.
pub fn mount(index: &File, tars: &[File]) -> Root {
    let path = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut erofs = Filesystem::new("erofs").unwrap().option("source", &path(index)).unwrap();
    for tar in tars {
        erofs = erofs.option("device", &path(tar)).unwrap();
    }
    Root::from_fd(erofs.mount(MountAttrFlags::MOUNT_ATTR_RDONLY).unwrap(), "an index")
}

/// Stacks folders by overlayfs, the lowest first.
pub fn stack(layers: &[&Root]) -> Root {
    let mut overlay = Filesystem::new("overlay").unwrap();
    for layer in layers.iter().rev() {
        let path = format!("/proc/self/fd/{}", std::os::fd::AsFd::as_fd(layer).as_raw_fd());
        overlay = overlay.option("lowerdir+", &path).unwrap();
    }
    if let [_] = layers {
        let empty = Filesystem::new("tmpfs").unwrap().mount(MountAttrFlags::empty()).unwrap();
        overlay = overlay.option("lowerdir+", &format!("/proc/self/fd/{}", empty.as_raw_fd())).unwrap();
        return Root::from_fd(overlay.mount(MountAttrFlags::MOUNT_ATTR_RDONLY).unwrap(), "a stack");
    }
    Root::from_fd(overlay.mount(MountAttrFlags::MOUNT_ATTR_RDONLY).unwrap(), "a stack")
}

/// All that can be seen of a tree, a line a name; with `links`, which names are of one inode, and how many there are.
pub fn seen(root: &Root, links: bool) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    let mut first_names = BTreeMap::new();
    let mut add = |place: &Place<'_>| {
        let name = place.path().as_os_str().as_bytes().escape_ascii().to_string();
        // Overlayfs lists a whiteout in a folder that one layer alone has, though there is nothing.
        let Some(metadata) = place.metadata()? else { return Ok(false) };
        let mut line = format!(
            "{:?} {:o} {}:{} {}.{:09}",
            metadata.kind, metadata.mode, metadata.uid, metadata.gid, metadata.mtime.0, metadata.mtime.1
        );
        match metadata.kind {
            FileType::Symlink => line += &format!(" -> {}", place.read_link()?.display()),
            FileType::RegularFile if metadata.size_bytes < 1 << 26 => {
                let mut content = Vec::new();
                place.open_file()?.read_to_end(&mut content).unwrap();
                line += &format!(" {} {}", content.len(), carrack_oci::Digest::of(&content));
            }
            FileType::RegularFile => line += &format!(" {}", metadata.size_bytes),
            FileType::Directory => {}
            _ => line += &format!(" {}", metadata.device),
        }
        let mut names = place.xattr_names()?;
        names.sort();
        for name in names {
            let value = place.xattr(&name)?.unwrap_or_default();
            line += &format!(" {}={}", name.display(), value.escape_ascii());
        }
        if links && metadata.kind != FileType::Directory {
            let first = first_names.entry(metadata.inode).or_insert_with(|| name.clone());
            line += &format!(" {first} {}", metadata.links);
        }
        lines.insert(name, line);
        Ok::<_, carrack_sys::Error>(true)
    };
    add(&root.at("").unwrap()).unwrap();
    tree::walk(root, &mut add).unwrap();
    lines
}
