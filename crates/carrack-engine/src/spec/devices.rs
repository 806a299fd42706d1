//! Devices of the host in a container: their nodes, and the rules that let them be used.

use std::fs;
use std::path::{Path, PathBuf};

use carrack_container::{DeviceMapping, DeviceSettings};
use carrack_sys::IoContext;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, Spec};

use crate::cdi::{self, Registry};
use crate::settings::ContainerSettings;
use crate::{Error, Result};

/// The most devices that one folder may hold.
const MAX_DEVICES: usize = 4096;

/// Adds the devices that the user asked for.
pub fn configure(spec: &mut Spec, asked: &DeviceSettings, settings: &ContainerSettings) -> Result<()> {
    for mapping in &asked.devices {
        for (source, path) in nodes(mapping)? {
            let (device, rule) = cdi::device_of_host(&source, &path, &mapping.access)?;
            cdi::add_device(spec, device, rule);
        }
    }
    for text in &asked.cgroup_rules {
        add_rule(spec, rule(text)?);
    }
    if !asked.requests.is_empty() {
        let registry = Registry::read(&settings.cdi_spec_dirs)?;
        for edits in registry.resolve(&asked.requests)? {
            cdi::apply(spec, edits)?;
        }
    }
    Ok(())
}

/// The device nodes of a mapping: one, or all below a folder, where they are on the host and in the container.
fn nodes(mapping: &DeviceMapping) -> Result<Vec<(PathBuf, PathBuf)>> {
    let source = mapping.source.canonicalize().during("find the device", &mapping.source)?;
    if !source.is_dir() {
        return Ok(vec![(source, mapping.destination.clone())]);
    }
    let mut nodes = Vec::new();
    let mut folders = vec![source.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).during("list", &folder)? {
            let entry = entry.during("list", &folder)?;
            let (path, kind) = (entry.path(), entry.file_type().during("examine", entry.path())?);
            if kind.is_dir() {
                folders.push(path);
            } else if is_device(&kind) {
                let below = path.strip_prefix(&source).unwrap_or(Path::new(""));
                let destination = mapping.destination.join(below);
                nodes.push((path, destination));
            }
        }
        if nodes.len() > MAX_DEVICES {
            let message = format!("{} has more than {MAX_DEVICES} devices", source.display());
            return Err(Error::refused(message, "name those that are needed"));
        }
    }
    if nodes.is_empty() {
        let message = format!("{} has no devices", source.display());
        return Err(Error::refused(message, "expected a device, or a folder of devices"));
    }
    nodes.sort();
    Ok(nodes)
}

fn is_device(kind: &fs::FileType) -> bool {
    use std::os::unix::fs::FileTypeExt;
    kind.is_char_device() || kind.is_block_device()
}

fn add_rule(spec: &mut Spec, rule: LinuxDeviceCgroup) {
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut resources = linux.resources().clone().unwrap_or_default();
    let mut rules = resources.devices().clone().unwrap_or_default();
    rules.push(rule);
    resources.set_devices(Some(rules));
    linux.set_resources(Some(resources));
    spec.set_linux(Some(linux));
}

/// Refuses a rule that is not of the form `c 189:* rmw`.
pub fn check_device_rule(text: &str) -> Result<()> {
    rule(text).map(drop)
}

/// `c 189:* rmw`, as Docker has it.
fn rule(text: &str) -> Result<LinuxDeviceCgroup> {
    let wrong = || {
        let hint = "expected TYPE MAJOR:MINOR ACCESS, as in 'c 189:* rmw'";
        Error::refused(format!("invalid device rule {text:?}"), hint)
    };
    let words: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, access] = words[..] else { return Err(wrong()) };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(wrong()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        text => text.parse::<u32>().map(|number| Some(number.into())).map_err(|_| wrong()),
    };
    let is_access = (1..=3).contains(&access.len()) && access.chars().all(|letter| "rwm".contains(letter));
    if !is_access {
        return Err(wrong());
    }
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true).set_typ(Some(kind)).set_major(number(major)?).set_minor(number(minor)?);
    rule.set_access(Some(access.to_owned()));
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_those_of_docker() {
        assert_eq!(rule("c 189:* rmw").unwrap().to_string(), "c 189:* rmw");
        assert_eq!(rule("a *:* r").unwrap().to_string(), "a *:* r");
        for text in ["", "c 1:3", "c 1 rw", "x 1:3 r", "c 1:3 rwx", "c -1:3 r", "c 1:3 rwmr", "c  1:3 r"] {
            assert!(rule(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_folder_stands_for_the_devices_in_it() {
        let mapping = |source: &str| DeviceMapping {
            source: source.into(),
            destination: "/dev/there".into(),
            access: "r".into(),
        };
        assert_eq!(nodes(&mapping("/dev/null")).unwrap(), [("/dev/null".into(), "/dev/there".into())]);
        let all = nodes(&mapping("/dev")).unwrap();
        assert!(all.contains(&("/dev/null".into(), "/dev/there/null".into())));
        assert!(nodes(&mapping("/etc")).is_err());
        assert!(nodes(&mapping("/dev/absent")).is_err());
    }
}
