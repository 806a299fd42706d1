//! Mounts of EROFS images, shared between processes: whoever stays with one says so in the run folder, and whoever
//! needs the same takes a copy from that process's descriptors.
//!
//! ```text
//! SHARES/<image>/<pid>-<start>-<boot>-<descriptor>   an empty file: this process holds a mount of this image
//! SHARES/lock                                        whoever announces or withdraws
//! ```
//!
//! Invariant: the kernel counts who uses a mount, so nothing is ever unmounted here; a crash leaves no more than an
//! announcement, and one is believed only while the process that made it lives.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_sys::lock::Lock;
use carrack_sys::mount::{Filesystem, clone_file};
use carrack_sys::{IoContext, atomic, process};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::MountAttrFlags;

use crate::Result;
use crate::folders::folder_names;

/// `EROFS_SUPER_MAGIC_V1`
const EROFS_MAGIC: u64 = 0xe0f5_e1e2;

/// An EROFS image in a file, with the files that its data are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageMount {
    /// The image: names and metadata.
    pub index: PathBuf,
    /// The files with the data, in the order of the image's device table.
    pub devices: Vec<PathBuf>,
    /// Where processes say that they hold a mount of this image; equal paths mean equal images.
    pub shares: Option<PathBuf>,
}

/// The mounts of images that this process stays with; they are offered to others until this is dropped.
#[derive(Debug, Default)]
pub struct Holds(Vec<Hold>);

#[derive(Debug)]
struct Hold {
    _mount: OwnedFd,
    announcement: PathBuf,
}

impl ImageMount {
    /// A detached mount of the image for the caller alone: a copy of one that lives, or a new one.
    pub(crate) fn open(&self, holds: Option<&mut Holds>) -> Result<OwnedFd> {
        let is_held = holds.is_some() && self.shares.is_some();
        let mount = self.open_shared(holds)?;
        if is_held { Ok(clone_file(mount.as_fd(), false)?) } else { Ok(mount) }
    }

    /// A detached mount of the image that stays as it is: with `holds`, it is the one that is offered to others. The end
    /// of a copy would be waited for, until no processor looks at it any more.
    pub(crate) fn open_shared(&self, holds: Option<&mut Holds>) -> Result<OwnedFd> {
        let Some(shares) = &self.shares else { return self.mount(None) };
        let Some(holds) = holds else {
            return find_shared(shares).map_or_else(|| self.mount(None), Ok);
        };
        // Two that come at once must not both find nothing.
        let _lock = lock(shares)?;
        let mount = find_shared(shares).map_or_else(|| self.mount(None), Ok)?;
        let announcement = shares.join(announcement(mount.as_raw_fd())?);
        atomic::create_private_dir(shares)?;
        File::create(&announcement).during("create", &announcement)?;
        let same = mount.try_clone().during("duplicate", "a mount")?;
        holds.0.push(Hold { _mount: mount, announcement });
        Ok(same)
    }

    /// A new mount of the image, whose files all have this SELinux context.
    pub(crate) fn mount(&self, context: Option<&str>) -> Result<OwnedFd> {
        let index = open(&self.index)?;
        let mut filesystem = Filesystem::new("erofs")?.option("source", &by_descriptor(&index))?;
        // Opened by the kernel right when the option is read or the file system is made: all must stay open till then.
        let devices = self.devices.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
        for device in &devices {
            filesystem = filesystem.option("device", &by_descriptor(device))?;
        }
        if let Some(context) = context {
            filesystem = filesystem.option("context", context)?;
        }
        Ok(filesystem.mount(MountAttrFlags::MOUNT_ATTR_RDONLY)?)
    }
}

fn open(path: &Path) -> Result<File> {
    Ok(File::open(path).during("open", path)?)
}

fn by_descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn lock(shares: &Path) -> Result<Lock> {
    let all = shares.parent().unwrap_or(shares);
    if !all.is_dir() {
        atomic::create_private_dir(all)?;
    }
    Ok(Lock::exclusive(&all.join("lock"))?)
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(shares) = self.announcement.parent() else { return };
        let Ok(_lock) = lock(shares) else { return };
        // What is left after a failure is an announcement of a process that has ended.
        let _ = fs::remove_file(&self.announcement);
        let _ = fs::remove_dir(shares);
    }
}

/// How this process announces the descriptor `number`.
fn announcement(number: i32) -> Result<String> {
    let pid = i32::try_from(std::process::id()).expect("a pid fits");
    let start = process::start_time_ticks(pid).during("look up", "this process")?;
    Ok(format!("{pid}-{start}-{}-{number}", boot_id()?))
}

/// The first part of the boot's id, enough to tell it from the one before.
fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).during("read", path)?;
    Ok(text.split('-').next().unwrap_or_default().to_owned())
}

/// A copy of a mount that a live process holds. Kernels before 6.15 copy no detached mounts; then there is none.
fn find_shared(shares: &Path) -> Option<OwnedFd> {
    let boot_id = boot_id().ok()?;
    for name in folder_names(shares).ok()? {
        match copy_announced(&name, &boot_id) {
            Some(mount) => return Some(mount),
            None if !is_alive(&name, &boot_id) => {
                let _ = fs::remove_file(shares.join(&name));
            }
            None => {}
        }
    }
    None
}

fn parts(name: &str) -> Option<(i32, u64, &str, i32)> {
    let mut parts = name.split('-');
    let mut next = || parts.next();
    let (pid, start, boot, number) = (next()?, next()?, next()?, next()?);
    Some((pid.parse().ok()?, start.parse().ok()?, boot, number.parse().ok()?))
}

/// Whether the process lives and still has the descriptor; one that was killed and not reaped yet has none.
fn is_alive(name: &str, boot_id: &str) -> bool {
    parts(name).is_some_and(|(pid, start, boot, number)| {
        boot == boot_id
            && process::start_time_ticks(pid).is_ok_and(|found| found == start)
            && fs::symlink_metadata(format!("/proc/{pid}/fd/{number}")).is_ok()
    })
}

fn copy_announced(name: &str, boot_id: &str) -> Option<OwnedFd> {
    let (pid, _, _, number) = parts(name)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let held = openat(CWD, format!("/proc/{pid}/fd/{number}"), flags, Mode::empty()).ok()?;
    // After the descriptor is open: the process that has it is the one that is looked at.
    if !is_alive(name, boot_id) || rustix::fs::fstatfs(&held).ok()?.f_type as u64 != EROFS_MAGIC {
        return None;
    }
    clone_file(held.as_fd(), false).ok()
}
