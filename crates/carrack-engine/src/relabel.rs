//! SELinux labels of what is mounted into containers (`:z`, `:Z`), and walks that change a whole tree.
//!
//! Invariant: whoever asks for a label has it from contexts that are in force; a tree is walked by descriptors without following a link; folders
//! that the host itself needs are refused.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use carrack_container::{Contexts, Relabel};
use carrack_runtime::labels::SELINUX_ATTRIBUTE;
use carrack_sys::rooted::{FileType, Place, Root};
use carrack_sys::{IoContext, tree};
use rustix::fs::{Mode, OFlags, fstat, openat};

use crate::{Error, Result, selinux};

/// What other containers and the host have in common; go-selinux refuses the same.
const OF_SYSTEM: [&str; 25] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/system",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
];

/// Refuses to change owners or labels of a folder that the host needs as it is.
pub(crate) fn refuse_system_folder(path: &Path) -> Result<()> {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match OF_SYSTEM.iter().any(|folder| real == Path::new(folder)) {
        true => Err(Error::refused(
            format!("relabeling of {} is not allowed: the host needs it as it is", path.display()),
            "mount a folder below it, or leave the option (z, Z, U) out",
        )),
        false => Ok(()),
    }
}

/// The label of what a container mounts: with Z its own, with z one that all containers share.
pub(crate) fn label(contexts: &Contexts, kind: Relabel) -> String {
    match kind {
        Relabel::Shared => selinux::shared(&contexts.files),
        Relabel::Private => contexts.files.clone(),
    }
}

/// Labels a file, or a folder with all below it.
pub(crate) fn relabel(source: &OwnedFd, label: &str) -> Result<()> {
    each(source, &mut |place| relabel_one(place, label))
}

/// Labels one file or folder that is not a link's to choose.
pub(crate) fn relabel_one(place: &Place<'_>, label: &str) -> Result<()> {
    let value = format!("{label}\0");
    match place.set_xattr(OsStr::new(SELINUX_ATTRIBUTE), value.as_bytes()) {
        // A filesystem without labels of its own.
        Err(error) if error.source.kind() == std::io::ErrorKind::Unsupported => Ok(()),
        result => Ok(result?),
    }
}

/// Does the same to a file, or to a folder and all below it, mounts too.
pub(crate) fn each(source: &OwnedFd, act: &mut dyn FnMut(&Place<'_>) -> Result<()>) -> Result<()> {
    let kind = FileType::from_raw_mode(fstat(source).during("examine", "a mount source")?.st_mode);
    if !kind.is_dir() {
        // The only name that an open file has for sure.
        let folder = Root::open(Path::new("/proc/self/fd"))?;
        let name = source.as_raw_fd().to_string();
        return act_on_file(&folder, &name, source, act);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(source, ".", flags, Mode::empty()).during("open", "a mount source")?;
    let root = Root::from_fd(folder, "a mount source");
    act(&root.at("")?)?;
    tree::walk_live(&root, |place| act(place).map(|()| true))
}

/// The name of an open file in procfs is a link that must be followed, which no [`Place`] does: its real folder is
/// opened, and the name in it must still be the same file.
fn act_on_file(
    folder: &Root,
    name: &str,
    source: &OwnedFd,
    act: &mut dyn FnMut(&Place<'_>) -> Result<()>,
) -> Result<()> {
    let path = folder.at(name)?.read_link()?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = Root::open(parent)?;
    let place = parent.at(name)?;
    let is_same = fstat(source).during("examine", &path)?;
    match place.metadata()? {
        Some(found) if found.inode == (is_same.st_dev, is_same.st_ino) => act(&place),
        _ => Err(Error::refused(format!("{} was replaced meanwhile", path.display()), "try again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_has_no_categories() {
        let files = "system_u:object_r:container_file_t:s0:c1,c2".to_owned();
        let contexts = Contexts { process: None, files: files.clone() };
        assert_eq!(label(&contexts, Relabel::Private), files);
        assert_eq!(label(&contexts, Relabel::Shared), "system_u:object_r:container_file_t:s0");
    }

    #[test]
    fn a_walk_changes_all_but_what_links_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        std::fs::create_dir_all(inside.join("sub")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(inside.join("sub/file"), "").unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("sub/link")).unwrap();
        let source = rustix::fs::open(&inside, OFlags::PATH, Mode::empty()).unwrap();
        let mut seen = Vec::new();
        each(&source, &mut |place| {
            seen.push(place.path().to_owned());
            Ok(place.set_owner(11, 12)?)
        })
        .unwrap();
        assert_eq!(seen.len(), 4, "{seen:?}");
        let uid = |path: &Path| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap());
        assert_eq!((uid(&inside.join("sub/file")), uid(&inside)), (11, 11));
        assert_eq!(uid(&outside), rustix::process::geteuid().as_raw());
        let file = rustix::fs::open(inside.join("sub/file"), OFlags::PATH, Mode::empty()).unwrap();
        each(&file, &mut |place| Ok(place.set_owner(13, 12)?)).unwrap();
        assert_eq!(uid(&inside.join("sub/file")), 13);
    }

    #[test]
    fn folders_of_the_host_are_refused() {
        for path in ["/", "/usr", "/home", "/etc/../usr"] {
            assert!(refuse_system_folder(Path::new(path)).is_err(), "{path}");
        }
        assert!(refuse_system_folder(Path::new("/usr/share")).is_ok());
    }
}
