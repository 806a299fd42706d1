//! The edits of CDI devices, made to a container's spec.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use carrack_sys::IoContext;
use oci_spec::runtime::{
    Hook as SpecHook, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, Mount as SpecMount, Spec,
};
use rustix::fs::{major, minor};

use super::file::{ContainerEdits, DeviceNode, Hook, Mount};
use crate::{Error, Result};

/// Makes the edits.
pub(crate) fn apply(spec: &mut Spec, edits: &ContainerEdits) -> Result<()> {
    if edits.intel_rdt.is_some() || !edits.net_devices.is_empty() {
        let message = "the CDI file asks for intelRdt or netDevices, which carrack does not do";
        return Err(Error::refused(message, "use a file without them"));
    }
    if let Some(process) = spec.process_mut() {
        process.set_env(Some(crate::create::merged_env(
            process.env().as_deref().unwrap_or_default(),
            &edits.env,
        )));
        let mut user = process.user().clone();
        let mut gids = user.additional_gids().clone().unwrap_or_default();
        gids.extend(edits.additional_gids.iter().filter(|gid| **gid != 0));
        user.set_additional_gids(Some(gids));
        process.set_user(user);
    }
    for node in &edits.device_nodes {
        let (device, rule) = device(node)?;
        add_device(spec, device, rule);
    }
    if !edits.mounts.is_empty() {
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        mounts.extend(edits.mounts.iter().map(mount));
        spec.set_mounts(Some(mounts));
    }
    edits.hooks.iter().try_for_each(|hook| add_hook(spec, hook))
}

/// Adds a device and the rule that lets it be used; a device at the same place gives way.
pub(crate) fn add_device(spec: &mut Spec, device: LinuxDevice, rule: LinuxDeviceCgroup) {
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut devices = linux.devices().clone().unwrap_or_default();
    devices.retain(|known| known.path() != device.path());
    devices.push(device);
    let mut resources = linux.resources().clone().unwrap_or_default();
    let mut rules = resources.devices().clone().unwrap_or_default();
    rules.push(rule);
    resources.set_devices(Some(rules));
    linux.set_devices(Some(devices)).set_resources(Some(resources));
    spec.set_linux(Some(linux));
}

/// What a node of the host is; without `node.kind` and numbers the host's own.
fn device(node: &DeviceNode) -> Result<(LinuxDevice, LinuxDeviceCgroup)> {
    let source = node.host_path.as_deref().unwrap_or(&node.path);
    let (mut device, mut rule) = match (node.kind.as_deref(), node.major, node.minor) {
        (Some(kind), Some(major), Some(minor)) => described(kind, major, minor)?,
        _ => device_of_host(source, &node.path, "rwm")?,
    };
    device.set_path(node.path.clone());
    let (uid, gid) = (node.uid.or(device.uid()), node.gid.or(device.gid()));
    let mode = node.file_mode.or(device.file_mode());
    device.set_uid(uid).set_gid(gid).set_file_mode(mode);
    let access = node.permissions.as_deref().filter(|text| !text.is_empty()).unwrap_or("rwm");
    rule.set_access(Some(access.to_owned()));
    Ok((device, rule))
}

fn described(kind: &str, major: i64, minor: i64) -> Result<(LinuxDevice, LinuxDeviceCgroup)> {
    let kind = match kind {
        "c" | "u" => LinuxDeviceType::C,
        "b" => LinuxDeviceType::B,
        _ => {
            let message = format!("invalid type {kind:?} of a device in a CDI file");
            return Err(Error::refused(message, "expected c, u or b"));
        }
    };
    Ok(both(kind, major, minor))
}

fn both(kind: LinuxDeviceType, major: i64, minor: i64) -> (LinuxDevice, LinuxDeviceCgroup) {
    let mut device = LinuxDevice::default();
    device.set_typ(kind).set_major(major).set_minor(minor);
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true).set_typ(Some(kind)).set_major(Some(major)).set_minor(Some(minor));
    (device, rule)
}

/// The device node `source` of the host as it is seen at `path`, and the rule that gives `access` to it.
pub(crate) fn device_of_host(
    source: &Path,
    path: &Path,
    access: &str,
) -> Result<(LinuxDevice, LinuxDeviceCgroup)> {
    let metadata = std::fs::metadata(source).during("examine the device", source)?;
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => {
            let message = format!("{} is no device", source.display());
            return Err(Error::refused(message, "expected a character or block device, or a folder of them"));
        }
    };
    let number = metadata.rdev();
    let (mut device, mut rule) = both(kind, major(number).into(), minor(number).into());
    device
        .set_path(path.to_owned())
        .set_file_mode(Some(metadata.mode() & 0o7777))
        .set_uid(Some(metadata.uid()))
        .set_gid(Some(metadata.gid()));
    rule.set_access(Some(access.to_owned()));
    Ok((device, rule))
}

fn mount(mount: &Mount) -> SpecMount {
    let mut made = SpecMount::default();
    // The specification's default is a bind mount that is read-only and private.
    let default = ["ro", "nosuid", "nodev", "bind"].map(str::to_owned).to_vec();
    let options = if mount.options.is_empty() { default } else { mount.options.clone() };
    made.set_destination(mount.container_path.clone())
        .set_source(Some(mount.host_path.clone()))
        .set_typ(Some(mount.kind.clone().unwrap_or_else(|| "bind".to_owned())))
        .set_options(Some(options));
    made
}

fn add_hook(spec: &mut Spec, hook: &Hook) -> Result<()> {
    let mut made = SpecHook::default();
    made.set_path(hook.path.clone())
        .set_args(Some(hook.args.clone()))
        .set_env(Some(hook.env.clone()))
        .set_timeout(hook.timeout);
    let mut hooks = spec.hooks().clone().unwrap_or_default();
    let with = |list: &Option<Vec<SpecHook>>| {
        Some(list.iter().flatten().cloned().chain([made.clone()]).collect::<Vec<_>>())
    };
    #[allow(deprecated, reason = "CDI files have hooks of this kind")]
    match hook.hook_name.as_str() {
        "prestart" => hooks.set_prestart(with(hooks.prestart())),
        "createRuntime" => hooks.set_create_runtime(with(hooks.create_runtime())),
        "createContainer" => hooks.set_create_container(with(hooks.create_container())),
        "startContainer" => hooks.set_start_container(with(hooks.start_container())),
        "poststart" => hooks.set_poststart(with(hooks.poststart())),
        "poststop" => hooks.set_poststop(with(hooks.poststop())),
        name => {
            let message = format!("unknown hook {name:?} in a CDI file");
            return Err(Error::refused(message, "expected a hook of the runtime specification"));
        }
    };
    spec.set_hooks(Some(hooks));
    Ok(())
}
