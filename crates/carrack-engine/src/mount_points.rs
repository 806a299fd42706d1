//! Mount points that a sandbox makes in an image that lacks them: they are no part of what a step changed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use carrack_container::MountSettings;
use carrack_sys::rooted::Root;
use carrack_sys::{IoContext, atomic};

use crate::{Engine, Result};

/// What every sandbox mounts over, each after its parent.
const ALWAYS: [&str; 7] =
    ["/proc", "/dev", "/sys", "/etc", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// Those of [`ALWAYS`] that are files.
const FILES: &str = "/etc/";

impl Engine {
    /// A folder with the mount points of every sandbox and nothing else. Below all layers, it shows what an image
    /// lacks, which then need not be made in the files of each container and removed with them.
    pub(crate) fn mount_points_folder(&self) -> Result<PathBuf> {
        let folder = self.environment.paths.runroot.join("mount-points");
        if !folder.exists() {
            let staged = folder.with_file_name(format!(".mount-points-{}", std::process::id()));
            make_mount_points(&staged)?;
            // Another start may have been first, with the same.
            match fs::rename(&staged, &folder) {
                Err(_) if folder.exists() => fs::remove_dir_all(&staged).during("remove", &staged)?,
                result => result.during("rename to", &folder)?,
            }
        }
        Ok(folder)
    }
}

fn make_mount_points(folder: &Path) -> Result<()> {
    let give = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).during("change the mode of", path)
    };
    atomic::create_private_dir(folder)?;
    give(folder, 0o755)?;
    for name in ALWAYS {
        let path = folder.join(&name[1..]);
        if name.starts_with(FILES) {
            fs::write(&path, "").during("create", &path)?;
            give(&path, 0o644)?;
        } else {
            atomic::create_private_dir(&path)?;
            give(&path, 0o755)?;
        }
    }
    Ok(())
}

/// The mount points that were missing, each after its parent.
pub(crate) struct MountPoints {
    missing: Vec<PathBuf>,
}

impl MountPoints {
    /// Looks which mount points `root` lacks: those of every sandbox, and `further` ones with their parents.
    pub(crate) fn look_up<'a>(root: &Root, further: impl Iterator<Item = &'a Path>) -> Result<Self> {
        let mut missing = Vec::new();
        for path in wanted(further) {
            if !missing.contains(&path) && !exists(root, &path)? {
                missing.push(path);
            }
        }
        Ok(Self { missing })
    }

    /// Removes those that are still what a sandbox makes: empty files and empty folders.
    pub(crate) fn remove(&self, root: &Root) -> Result<()> {
        for path in self.missing.iter().rev() {
            let Some(metadata) = root.metadata(path)? else { continue };
            if metadata.is_dir() || metadata.size_bytes == 0 {
                match root.at(path)?.remove() {
                    Err(error) if error.source.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
                    result => result?,
                }
            }
        }
        Ok(())
    }
}

/// What a read-only root has in memory to write to, with its mode (Podman's `--read-only-tmpfs`).
const WRITABLE: [(&str, &str); 3] = [("/run", "755"), ("/tmp", "1777"), ("/var/tmp", "1777")];

/// What systemd has in memory, with its mode.
const OF_SYSTEMD: [(&str, &str); 4] =
    [("/run", "755"), ("/run/lock", "755"), ("/tmp", "1777"), ("/var/log/journal", "755")];

/// The places of [`WRITABLE`] and [`OF_SYSTEMD`] that a container has, unless the user mounts something there.
pub(crate) fn writable(mounts: &MountSettings) -> impl Iterator<Item = (&'static Path, &'static str)> {
    let wanted = mounts.read_only && mounts.read_only_tmpfs;
    let of_systemd: &[_] = if mounts.systemd { &OF_SYSTEMD } else { &[] };
    let is_further = |(path, _): &&(&str, &str)| of_systemd.iter().all(|(known, _)| known != path);
    let others = WRITABLE.iter().filter(move |_| wanted).filter(is_further);
    let places: Vec<_> = of_systemd.iter().chain(others).collect();
    let places = places.into_iter().map(|(path, mode)| (Path::new(*path), *mode));
    places.filter(|(path, _)| {
        let is_taken = mounts.tmpfs.iter().any(|tmpfs| tmpfs.destination == *path);
        !is_taken && !mounts.points.iter().any(|point| point.destination == *path)
    })
}

/// The paths of [`writable`].
pub(crate) fn in_memory(mounts: &MountSettings) -> impl Iterator<Item = &Path> {
    writable(mounts).map(|(path, _)| path)
}

/// The mount points of every sandbox, and `further` ones, each after its parents.
pub(crate) fn wanted<'a>(further: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut wanted: Vec<PathBuf> = ALWAYS.iter().map(PathBuf::from).collect();
    for path in further {
        let mut parents: Vec<&Path> = path.ancestors().filter(|parent| parent.parent().is_some()).collect();
        parents.reverse();
        wanted.extend(parents.into_iter().map(Path::to_owned));
    }
    wanted
}

/// Whether a name is there, links followed.
pub(crate) fn exists(root: &Root, path: &Path) -> Result<bool> {
    match root.metadata(path) {
        Ok(metadata) => Ok(metadata.is_some()),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_what_was_made_and_keeps_what_was_filled() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        fs::create_dir(folder.path().join("sys")).unwrap();
        let points = MountPoints::look_up(&root, [Path::new("/opt/cache/x")].into_iter()).unwrap();
        for made in ["proc", "dev", "etc", "opt/cache/x"] {
            fs::create_dir_all(folder.path().join(made)).unwrap();
        }
        fs::write(folder.path().join("etc/hosts"), "").unwrap();
        fs::write(folder.path().join("etc/hostname"), "written by the step").unwrap();
        points.remove(&root).unwrap();
        let exists = |path: &str| folder.path().join(path).exists();
        assert!(exists("sys") && exists("etc/hostname"));
        assert!(!exists("proc") && !exists("dev") && !exists("etc/hosts") && !exists("opt"));
    }
}
