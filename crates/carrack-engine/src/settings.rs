//! carrack's own settings, from TOML files; the command line overrides them.
//!
//! docs/settings.md describes each key. An unknown key is an error: a misspelt setting must not be ignored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use carrack_container::{CgroupManager, LogDriver};
use carrack_snapshot::Driver;
use carrack_sys::{IoContext, atomic};
use serde::{Deserialize, Serialize};

use crate::{ByteSize, Error, Result};

/// All settings, with the embedded defaults.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where things are kept.
    pub storage: StorageSettings,
    /// How registries are reached.
    pub registries: RegistrySettings,
    /// The default bridge.
    pub network: NetworkSettings,
    /// Defaults of containers.
    pub containers: ContainerSettings,
    /// Other OCI runtimes, by name.
    pub runtimes: BTreeMap<String, RuntimeSettings>,
    /// How images are built.
    pub build: BuildSettings,
    /// What is kept of images.
    pub images: ImageSettings,
}

/// `[storage]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageSettings {
    /// State that survives a reboot.
    pub root: Option<PathBuf>,
    /// State of what runs.
    pub runroot: Option<PathBuf>,
    /// What the store may take on disk before unused images make room.
    pub max_size: Option<ByteSize>,
    /// How layers are kept; without it, the best that works here.
    pub driver: Option<Driver>,
}

/// `[registries]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistrySettings {
    /// `host[:port]` entries that may be reached by plain HTTP; loopback always may.
    pub insecure: Vec<String>,
    /// Files with further certificate authorities, PEM.
    pub certificate_authorities: Vec<PathBuf>,
    /// Layers transferred at the same time.
    pub parallel_layers: usize,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self { insecure: Vec::new(), certificate_authorities: Vec::new(), parallel_layers: 4 }
    }
}

/// `[network]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSettings {
    /// The name of the bridge's interface.
    pub bridge: String,
    /// The bridge's subnet; the bridge has its first address.
    pub subnet: String,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self { bridge: "carrack0".to_owned(), subnet: "10.87.0.0/16".to_owned() }
    }
}

/// `[containers]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContainerSettings {
    /// The largest number of processes and threads in a container; 0 is no limit.
    pub pids_limit: i64,
    /// The size in bytes at which a container's log is rotated.
    pub log_max_size: u64,
    /// How many rotated log files are kept, the current one included.
    pub log_max_files: u32,
    /// Folders of CDI files, which say what a device needs; what is in a later one wins.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// Where a container's output goes that does not say.
    pub log_driver: LogDriver,
    /// Who makes the cgroups of containers.
    pub cgroup_manager: CgroupManager,
    /// The OCI runtime that starts a container that does not say; `carrack` is its own.
    pub runtime: String,
}

impl Default for ContainerSettings {
    fn default() -> Self {
        Self {
            pids_limit: 2048,
            log_max_size: 10 << 20,
            log_max_files: 3,
            cdi_spec_dirs: ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec(),
            log_driver: LogDriver::JsonFile,
            cgroup_manager: CgroupManager::Cgroupfs,
            runtime: "carrack".to_owned(),
        }
    }
}

/// `[runtimes.NAME]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeSettings {
    /// The program.
    pub path: PathBuf,
    /// What stands before the command in all its calls.
    #[serde(default)]
    pub args: Vec<String>,
}

/// `[build]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BuildSettings {
    /// Days after its last use that a step is kept in the build cache.
    pub cache_days: u32,
}

impl Default for BuildSettings {
    fn default() -> Self {
        Self { cache_days: 14 }
    }
}

/// `[images]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageSettings {
    /// How many earlier meanings of each name are remembered; 0 is none.
    pub history: usize,
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self { history: 10 }
    }
}

impl Settings {
    /// Reads the first of `files` that exists; without any, the embedded defaults.
    pub fn load(files: &[PathBuf]) -> Result<Self> {
        for file in files {
            if let Some(bytes) = atomic::read(file)? {
                return Self::parse(file, &bytes);
            }
        }
        Ok(Self::default())
    }

    fn parse(file: &Path, bytes: &[u8]) -> Result<Self> {
        let invalid =
            |error: &dyn std::fmt::Display| Error::Settings { file: file.into(), reason: error.to_string() };
        let text = std::str::from_utf8(bytes).map_err(|error| invalid(&error))?;
        let settings: Self = toml::from_str(text).map_err(|error| invalid(&error))?;
        match settings.runtimes.contains_key("carrack") {
            true => Err(invalid(&"runtimes.carrack: the name is carrack's own, give the runtime another")),
            false => Ok(settings),
        }
    }
}

/// Where the stores of this invocation are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Paths {
    /// State that survives a reboot.
    pub root: PathBuf,
    /// State of what runs; lost at a reboot.
    pub runroot: PathBuf,
}

impl Paths {
    /// Makes both folders (mode 0700) and makes their paths absolute, so that another process can use them.
    pub fn prepare(mut self) -> Result<Self> {
        for path in [&mut self.root, &mut self.runroot] {
            if !path.is_dir() {
                atomic::create_private_dir(path)?;
            }
            *path = path.canonicalize().during("resolve", &*path)?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_part_and_refuses_misspelt_keys() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("carrack.toml");
        std::fs::write(&file, "[containers]\npids_limit = 7\n").unwrap();
        let settings = Settings::load(&[folder.path().join("absent"), file.clone()]).unwrap();
        assert_eq!((settings.containers.pids_limit, settings.registries.parallel_layers), (7, 4));
        std::fs::write(&file, "[containers]\npid_limit = 7\n").unwrap();
        let error = Settings::load(std::slice::from_ref(&file)).unwrap_err().to_string();
        assert!(error.contains("carrack.toml") && error.contains("pid_limit"), "{error}");
        std::fs::write(&file, "[runtimes.carrack]\npath = \"/bin/true\"\n").unwrap();
        let error = Settings::load(std::slice::from_ref(&file)).unwrap_err().to_string();
        assert!(error.contains("carrack's own"), "{error}");
        std::fs::write(&file, "[runtimes.other]\npath = \"/bin/true\"\nargs = [\"-q\"]\n").unwrap();
        assert_eq!(Settings::load(&[file]).unwrap().runtimes["other"].args, ["-q"]);
    }
}
