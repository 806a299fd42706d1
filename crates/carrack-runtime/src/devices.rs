//! The container's `/dev`: the devices that the runtime spec demands, those of the spec, and the usual links.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::mount::{Attributes, Propagation, attach, clone_path, set_attributes};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};
use rustix::fs::{FileType, Stat, fstat, makedev};

use crate::rootfs::{Kind, Rootfs};
use crate::{Error, Result};

/// Devices of every container (runtime-spec, config-linux.md, "Default Devices"): name, major, minor.
const DEFAULT: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// runtime-spec, runtime-linux.md, "Dev symbolic links".
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// One device, ready to be placed.
#[derive(Debug)]
pub(crate) struct PlannedDevice {
    path: PathBuf,
    how: How,
    /// Whether the spec names it; the others are of every container.
    asked: bool,
}

#[derive(Debug)]
enum How {
    Node {
        kind: FileType,
        mode: u32,
        number: u64,
        owner: (u32, u32),
    },
    /// A process in a user namespace cannot make nodes: the host's is mounted.
    Mount(OwnedFd),
}

/// Parent: `as_mounts` when the container has a user namespace.
pub(crate) fn plan(spec: &Spec, as_mounts: bool) -> Result<Vec<PlannedDevice>> {
    let mut devices = Vec::new();
    for (name, major, minor) in DEFAULT {
        let number = makedev(major, minor);
        let how = How::Node { kind: FileType::CharacterDevice, mode: 0o666, number, owner: (0, 0) };
        devices.push(PlannedDevice { path: Path::new("/dev").join(name), how, asked: false });
    }
    for device in spec.linux().iter().flat_map(|linux| linux.devices().iter().flatten()) {
        devices.retain(|default| default.path != *device.path());
        devices.push(PlannedDevice { path: device.path().clone(), how: node(device)?, asked: true });
    }
    if as_mounts {
        devices.iter_mut().try_for_each(PlannedDevice::open_on_host)?;
    }
    Ok(devices)
}

fn node(device: &LinuxDevice) -> Result<How> {
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => return Err(Error::spec("expected a device of one type, got type a")),
    };
    let part = |number: i64| {
        u32::try_from(number).map_err(|_| Error::spec(format!("expected a device number, got {number}")))
    };
    let number = makedev(part(device.major())?, part(device.minor())?);
    let mode = device.file_mode().unwrap_or(0o666) & 0o7777;
    Ok(How::Node { kind, mode, number, owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)) })
}

impl PlannedDevice {
    fn open_on_host(&mut self) -> Result<()> {
        let mount = clone_path(&self.path, false)?;
        set_attributes(mount.as_fd(), Attributes::propagation(Propagation::Private), false)?;
        self.how = How::Mount(mount);
        Ok(())
    }

    /// Child. What a mount of the spec or an earlier start put there already is kept, if it is that device.
    fn place(&self, rootfs: &Rootfs) -> Result<()> {
        if let Some(found) = rootfs.find(&self.path, crate::rootfs::Links::Refuse)? {
            let found = fstat(&found).during("examine the device", &self.path)?;
            match self.how {
                _ if !self.asked || self.is(&found)? => return Ok(()),
                // What a mount of this device leaves.
                How::Mount(_) if FileType::from_raw_mode(found.st_mode).is_file() && found.st_size == 0 => {}
                _ => {
                    return Err(Error::spec(format!(
                        "the device {} cannot be made: another file is there",
                        self.path.display()
                    )));
                }
            }
        }
        match &self.how {
            How::Mount(mount) => {
                let target = rootfs.find_or_make(&self.path, Kind::File)?;
                Ok(attach(mount.as_fd(), target.as_fd())?)
            }
            How::Node { kind, mode, number, owner } => {
                if let Some(folder) = self.path.parent() {
                    rootfs.root().create_dir_all(folder, 0o755)?;
                }
                let place = rootfs.root().at(&self.path)?;
                place.create_node(*kind, *mode, *number)?;
                if *owner != (0, 0) {
                    place.set_owner(owner.0, owner.1)?;
                }
                Ok(())
            }
        }
    }
}

impl PlannedDevice {
    /// Whether a file is this device: of its kind, and of its numbers where the kind has some.
    fn is(&self, found: &Stat) -> Result<bool> {
        let (kind, number) = match &self.how {
            How::Node { kind, number, .. } => (*kind, *number),
            How::Mount(mount) => {
                let own = fstat(mount).during("examine the device", &self.path)?;
                (FileType::from_raw_mode(own.st_mode), own.st_rdev)
            }
        };
        let is_fifo = kind == FileType::Fifo;
        Ok(FileType::from_raw_mode(found.st_mode) == kind && (is_fifo || found.st_rdev == number))
    }
}

/// Child: fills `/dev`, unless it is the host's, and makes what is elsewhere. The umask must be zero.
pub(crate) fn place(rootfs: &Rootfs, devices: &[PlannedDevice], dev_is_bound: bool) -> Result<()> {
    let is_meant = |device: &&PlannedDevice| !(dev_is_bound && device.path.starts_with("/dev"));
    devices.iter().filter(is_meant).try_for_each(|device| device.place(rootfs))?;
    if dev_is_bound {
        return Ok(());
    }
    for (name, target) in LINKS {
        let place = rootfs.root().at(Path::new("/dev").join(name))?;
        match place.create_symlink(target) {
            Err(error) if error.is_already_exists() => {}
            result => result?,
        }
    }
    Ok(())
}
