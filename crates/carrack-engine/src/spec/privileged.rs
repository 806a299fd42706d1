//! `--privileged`: what a spec withholds from a container, given back: kernel filesystems unmasked and writable, and
//! every device of the host.
//!
//! Capabilities and seccomp are in `security.rs`; namespaces stay the container's own.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, Mount, Spec};
use rustix::fs::{major, minor};

use crate::Result;

/// Folders of `/dev` that each container has of its own.
const OWN: [&str; 5] = ["pts", "shm", "mqueue", "fd", "hugepages"];
/// Devices that each container has of its own.
const OWN_DEVICES: [&str; 3] = ["console", "ptmx", "tty"];
/// A host with more devices than this is not what it seems.
const MAX_DEVICES: usize = 65_536;

/// Opens the spec.
pub fn open(spec: &mut Spec) -> Result<()> {
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.iter_mut().filter(|mount| is_of_kernel(mount)).for_each(make_writable);
    spec.set_mounts(Some(mounts));
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut devices = linux.devices().clone().unwrap_or_default();
    devices.extend(devices_of_host()?);
    let mut resources = linux.resources().clone().unwrap_or_default();
    let mut everything = LinuxDeviceCgroup::default();
    everything.set_allow(true).set_typ(Some(LinuxDeviceType::A)).set_access(Some("rwm".to_owned()));
    resources.set_devices(Some(vec![everything]));
    linux
        .set_masked_paths(Some(Vec::new()))
        .set_readonly_paths(Some(Vec::new()))
        .set_devices(Some(devices))
        .set_resources(Some(resources));
    spec.set_linux(Some(linux));
    Ok(())
}

fn is_of_kernel(mount: &Mount) -> bool {
    matches!(mount.typ().as_deref(), Some("sysfs" | "cgroup" | "cgroup2" | "proc"))
}

/// Takes the word away by which a mount is read-only.
pub fn make_writable(mount: &mut Mount) {
    let options = mount.options().iter().flatten().filter(|option| *option != "ro").cloned();
    let options = options.collect();
    mount.set_options(Some(options));
}

/// Every device below the host's `/dev`; links are not followed.
fn devices_of_host() -> Result<Vec<LinuxDevice>> {
    let mut devices = Vec::new();
    let mut folders = vec![PathBuf::from("/dev")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).during("list", &folder)? {
            let entry = entry.during("list", &folder)?;
            let path = entry.path();
            let name = entry.file_name();
            let is_own = |names: &[&str]| folder == Path::new("/dev") && names.iter().any(|own| name == *own);
            // A device may go while they are listed.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() && !is_own(&OWN) {
                folders.push(path);
            } else if !is_own(&OWN_DEVICES) {
                devices.extend(device(path, &metadata));
            }
        }
        if devices.len() > MAX_DEVICES {
            let message = format!("the host has more than {MAX_DEVICES} devices");
            return Err(crate::Error::refused(message, "name those that are needed with --device"));
        }
    }
    devices.sort_by(|one, other| one.path().cmp(other.path()));
    Ok(devices)
}

fn device(path: PathBuf, metadata: &fs::Metadata) -> Option<LinuxDevice> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return None,
    };
    let number = metadata.rdev();
    let mut device = LinuxDevice::default();
    device
        .set_path(path)
        .set_typ(kind)
        .set_major(i64::from(major(number)))
        .set_minor(i64::from(minor(number)))
        .set_file_mode(Some(metadata.mode() & 0o7777))
        .set_uid(Some(metadata.uid()))
        .set_gid(Some(metadata.gid()));
    Some(device)
}
