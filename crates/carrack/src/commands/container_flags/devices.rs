//! Flags for devices of the host.

use carrack_engine::{DeviceMapping, DeviceRequest, DeviceSettings};
use clap::Args;

use crate::failure::{Result, invalid};

#[derive(Args)]
pub struct DeviceFlags {
    /// Device of the host, a folder of devices, or a device of a CDI file (vendor.com/class=name)
    #[arg(long, value_name = "HOST[:CONTAINER][:rwm]")]
    device: Vec<String>,
    /// Rule of the device cgroup, as in 'c 189:* rmw'
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<String>,
    /// Graphics processors: all, a number, or device=0,1; the host's CDI files say what they need
    #[arg(long, value_name = "GPUS")]
    gpus: Vec<String>,
}

impl DeviceFlags {
    /// What is asked of the engine.
    pub fn settings(&self) -> Result<DeviceSettings> {
        let (named, nodes): (Vec<_>, Vec<_>) = self.device.iter().partition(|text| is_cdi_name(text));
        let mut requests = Vec::new();
        if !named.is_empty() {
            requests.push(DeviceRequest::Cdi(named.into_iter().cloned().collect()));
        }
        for text in &self.gpus {
            requests.push(gpus(text)?);
        }
        Ok(DeviceSettings {
            devices: nodes.into_iter().map(|text| mapping(text)).collect::<Result<_>>()?,
            cgroup_rules: self
                .device_cgroup_rule
                .iter()
                .map(|text| carrack_engine::check_device_rule(text).map(|()| text.clone()))
                .collect::<Result<_, _>>()?,
            requests,
        })
    }
}

/// `vendor.com/class=name`; a path of the host begins with a slash or a point.
fn is_cdi_name(text: &str) -> bool {
    !text.starts_with(['/', '.'])
        && text.split_once('=').is_some_and(|(kind, name)| kind.contains('/') && !name.is_empty())
}

/// `HOST[:CONTAINER][:rwm]`
fn mapping(text: &str) -> Result<DeviceMapping> {
    let wrong = |expected| invalid("--device", text, expected);
    let is_access =
        |text: &str| (1..=3).contains(&text.len()) && text.chars().all(|letter| "rwm".contains(letter));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, access) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, access] if is_access(access) => (source, source, access),
        [source, destination] => (source, destination, "rwm"),
        [source, destination, access] if is_access(access) => (source, destination, access),
        [_, _, _] => return Err(wrong("access of the letters r, w and m")),
        _ => return Err(wrong("HOST[:CONTAINER][:rwm]")),
    };
    if !source.starts_with('/') || !destination.starts_with('/') {
        return Err(wrong("absolute paths, or a device of a CDI file (vendor.com/class=name)"));
    }
    Ok(DeviceMapping { source: source.into(), destination: destination.into(), access: access.to_owned() })
}

/// `all`, `2`, `device=0,1` and what Docker's options make of them.
fn gpus(text: &str) -> Result<DeviceRequest> {
    let wrong = || invalid("--gpus", text, "all, a number, or device=0,1");
    // Docker's examples put quotes into the value: --gpus '"device=0,1"'.
    let plain = text.trim_matches('"');
    if let Some(ids) = plain.strip_prefix("device=") {
        let ids: Vec<String> = ids.split(',').map(str::to_owned).collect();
        let is_id = |id: &String| {
            !id.is_empty()
                && id.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_:.".contains(letter))
        };
        return if ids.iter().all(is_id) { Ok(DeviceRequest::Gpus(ids)) } else { Err(wrong()) };
    }
    match plain.strip_prefix("count=").unwrap_or(plain) {
        "all" | "-1" => Ok(DeviceRequest::AllGpus),
        count => match count.parse() {
            Ok(count @ 1..) => Ok(DeviceRequest::GpuCount(count)),
            _ => Err(wrong()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_nodes_or_names() {
        let parts = |text| {
            let mapping = mapping(text).ok()?;
            Some((
                mapping.source.display().to_string(),
                mapping.destination.display().to_string(),
                mapping.access,
            ))
        };
        let expected = |source: &str, destination: &str, access: &str| {
            Some((source.to_owned(), destination.to_owned(), access.to_owned()))
        };
        assert_eq!(parts("/dev/a"), expected("/dev/a", "/dev/a", "rwm"));
        assert_eq!(parts("/dev/a:r"), expected("/dev/a", "/dev/a", "r"));
        assert_eq!(parts("/dev/a:/dev/b"), expected("/dev/a", "/dev/b", "rwm"));
        assert_eq!(parts("/dev/a:/dev/b:rw"), expected("/dev/a", "/dev/b", "rw"));
        for text in ["a", "/dev/a:b", "/dev/a:/dev/b:rx", "/dev/a:/b:r:w", ""] {
            assert_eq!(parts(text), None, "{text:?}");
        }
        assert!(is_cdi_name("vendor.com/class=name") && !is_cdi_name("/dev/a=b") && !is_cdi_name("a=b"));
    }

    #[test]
    fn gpus_are_counted_or_named() {
        assert_eq!(gpus("all").unwrap(), DeviceRequest::AllGpus);
        assert_eq!(gpus("2").unwrap(), DeviceRequest::GpuCount(2));
        assert_eq!(gpus("\"device=0,1\"").unwrap(), DeviceRequest::Gpus(vec!["0".into(), "1".into()]));
        for text in ["", "0", "some", "device=", "device=a b"] {
            assert!(gpus(text).is_err(), "{text:?}");
        }
    }
}
