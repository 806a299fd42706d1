//! The form of a CDI file (Container Device Interface specification 0.8).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// A CDI file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SpecFile {
    cdi_version: String,
    /// `vendor.com/class`
    pub kind: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    pub devices: Vec<Device>,
    /// For every container that has any of the devices.
    #[serde(default)]
    pub container_edits: ContainerEdits,
}

/// A device of a CDI file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Device {
    pub name: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    pub container_edits: ContainerEdits,
}

/// What a container gets.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct ContainerEdits {
    pub env: Vec<String>,
    pub device_nodes: Vec<DeviceNode>,
    pub mounts: Vec<Mount>,
    pub hooks: Vec<Hook>,
    pub additional_gids: Vec<u32>,
    pub intel_rdt: Option<serde_json::Value>,
    pub net_devices: Vec<serde_json::Value>,
}

/// A device node.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DeviceNode {
    pub path: PathBuf,
    pub host_path: Option<PathBuf>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub file_mode: Option<u32>,
    pub permissions: Option<String>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// A bind mount, unless it says otherwise.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Mount {
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    #[serde(default)]
    pub options: Vec<String>,
}

/// A program that is run at a moment of the container's life.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Hook {
    pub hook_name: String,
    pub path: PathBuf,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub env: Vec<String>,
    pub timeout: Option<i64>,
}

impl SpecFile {
    /// Refuses versions that are not known, and names that could be mistaken.
    pub fn check(&self) -> Result<(), String> {
        let mut parts = self.cdi_version.split('.').map(str::parse::<u32>);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(0)), Some(Ok(_)), Some(Ok(_)), None)
            | (Some(Ok(1)), Some(Ok(0..=1)), Some(Ok(_)), None) => {}
            _ => {
                return Err(format!("expected a cdiVersion from 0.3.0 to 1.1.0, got {:?}", self.cdi_version));
            }
        }
        let kind = self.kind.split_once('/');
        if !kind.is_some_and(|(vendor, class)| is_name(vendor) && is_name(class)) {
            return Err(format!("expected a kind as in vendor.com/class, got {:?}", self.kind));
        }
        let wrong = self.devices.iter().find(|device| {
            !device.name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.:".contains(letter))
                || device.name.is_empty()
        });
        match wrong {
            Some(device) => Err(format!("expected the name of a device, got {:?}", device.name)),
            None => Ok(()),
        }
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter))
}
