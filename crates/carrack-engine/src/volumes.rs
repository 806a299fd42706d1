//! Volumes by name: make, list, show, remove what no container has.

use std::collections::BTreeMap;
use std::path::PathBuf;

use carrack_container::{
    Container, ContainerRecord, Error as ContainerError, Volume, VolumeName, VolumeRecord,
};
use carrack_sys::rooted::Root;
use carrack_sys::tree;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::error::OperationContext;
use crate::image_filter::parse_time;
use crate::relabel::relabel_one;
use crate::{Engine, Error, Result, selinux};

/// What a user asks for with `volume create`.
#[derive(Clone, Debug, Default)]
pub struct VolumeRequest {
    /// The name; a random one without it.
    pub name: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver: `type`, `device`, `o`.
    pub options: BTreeMap<String, String>,
}

/// A volume and who has it.
#[derive(Clone, Debug)]
pub struct VolumeUse {
    /// The volume.
    pub volume: Volume,
    /// The containers that have it, by name.
    pub containers: Vec<String>,
}

/// What a volume's content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VolumeContent {
    /// Its own folder.
    Data,
    /// A file or folder of the host.
    Bind { path: PathBuf, read_only: bool },
    /// Memory, as long as a container runs.
    Tmpfs(Vec<String>),
}

/// Which volumes a listing or a prune is about; each filter narrows it.
#[derive(Clone, Debug, Default)]
pub struct VolumeFilters {
    filters: Vec<Filter>,
}

#[derive(Clone, Debug)]
enum Filter {
    Dangling(bool),
    Driver(String),
    Name(String),
    Label { key: String, value: Option<String>, wanted: bool },
    Until(Timestamp),
    Anonymous(bool),
}

impl VolumeFilters {
    /// Reads `KEY=VALUE` texts.
    pub fn parse(texts: &[String]) -> Result<Self> {
        let filters = texts.iter().map(|text| {
            Filter::parse(text).ok_or_else(|| {
                let expected = "dangling=BOOL, driver=NAME, name=TEXT, label=KEY[=VALUE], label!=KEY[=VALUE], \
                                until=TIME or anonymous=BOOL";
                Error::refused(format!("invalid filter {text:?}: expected {expected}"), "")
            })
        });
        Ok(Self { filters: filters.collect::<Result<_>>()? })
    }

    fn admit(&self, one: &VolumeUse) -> bool {
        self.filters.iter().all(|filter| filter.admits(one))
    }
}

impl Filter {
    fn parse(text: &str) -> Option<Self> {
        let label = |text: &str, wanted| {
            let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
            Self::Label { key: key.to_owned(), value: value.map(str::to_owned), wanted }
        };
        if let Some(text) = text.strip_prefix("label!=") {
            return Some(label(text, false));
        }
        let (key, value) = text.split_once('=')?;
        let truth = match value {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        };
        Some(match key {
            "dangling" => Self::Dangling(truth?),
            "anonymous" => Self::Anonymous(truth?),
            "driver" => Self::Driver(value.to_owned()),
            "name" => Self::Name(value.to_owned()),
            "label" => label(value, true),
            "until" => Self::Until(parse_time(value)?),
            _ => return None,
        })
    }

    fn admits(&self, one: &VolumeUse) -> bool {
        let record = &one.volume.record;
        match self {
            Self::Dangling(wanted) => one.containers.is_empty() == *wanted,
            Self::Anonymous(wanted) => record.anonymous == *wanted,
            Self::Driver(name) => name == "local",
            Self::Name(text) => record.name.as_str().contains(text.as_str()),
            Self::Until(time) => record.created < *time,
            Self::Label { key, value, wanted } => {
                let found = record.labels.get(key);
                let has = found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found));
                has == *wanted
            }
        }
    }
}

impl Engine {
    /// Makes a volume; one that exists with the same options is taken as it is. Returns its name. After a crash there
    /// is no volume, or the whole.
    pub fn create_volume(&self, request: VolumeRequest) -> Result<String> {
        let shown = request.name.clone().unwrap_or_default();
        self.make_volume(request)
            .map(|volume| volume.record.name.to_string())
            .operation("create volume", shown)
    }

    fn make_volume(&self, request: VolumeRequest) -> Result<Volume> {
        let _held = self.volumes.hold()?;
        let anonymous = request.name.is_none();
        let name = request.name.map_or_else(VolumeName::random, |name| name.parse())?;
        let record = VolumeRecord {
            name,
            created: Timestamp::now(),
            labels: request.labels,
            options: request.options,
            anonymous,
        };
        volume_content(&record)?;
        match self.add_volume(&record) {
            Err(Error::Container(ContainerError::VolumeExists { .. })) => {
                let found = self.volumes.get(&record.name)?;
                match record.options.is_empty() || found.record.options == record.options {
                    true => Ok(found),
                    false => Err(Error::refused(
                        "a volume of this name has other options",
                        format!("remove it first: carrack volume rm {}", record.name),
                    )),
                }
            }
            made => made,
        }
    }

    /// The volume of this name, made if it is missing. The caller holds the lock of volumes.
    pub(crate) fn volume_of(&self, name: &VolumeName, anonymous: bool) -> Result<Volume> {
        match self.volumes.get(name) {
            Err(ContainerError::VolumeNotFound { .. }) => {}
            found => return Ok(found?),
        }
        let (labels, options) = (BTreeMap::new(), BTreeMap::new());
        let record =
            VolumeRecord { name: name.clone(), created: Timestamp::now(), labels, options, anonymous };
        match self.add_volume(&record) {
            Err(Error::Container(ContainerError::VolumeExists { .. })) => Ok(self.volumes.get(name)?),
            made => made,
        }
    }

    /// A new volume has the label that all containers share; what they write there is labelled after it.
    fn add_volume(&self, record: &VolumeRecord) -> Result<Volume> {
        let label = selinux::shared_files()?;
        let volume = self.volumes.create(record)?;
        if let Some(label) = label {
            relabel_one(&Root::open(&volume.data())?.at("")?, &label)?;
        }
        Ok(volume)
    }

    /// Volumes by name, with the containers that have them.
    pub fn list_volumes(&self, filters: &VolumeFilters) -> Result<Vec<VolumeUse>> {
        let containers = self.containers.list()?;
        let volumes = self
            .volumes
            .list()?
            .into_iter()
            .map(|volume| VolumeUse { containers: users(&containers, volume.record.name.as_str()), volume });
        Ok(volumes.filter(|one| filters.admit(one)).collect())
    }

    /// Whether there is a volume of this name.
    pub fn has_volume(&self, name: &str) -> Result<bool> {
        match self.volumes.get(&name.parse()?) {
            Ok(_) => Ok(true),
            Err(ContainerError::VolumeNotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// `docker volume inspect`
    pub fn inspect_volume(&self, name: &str) -> Result<Value> {
        Ok(volume_json(&self.volumes.find(name)?))
    }

    /// What a volume's own folder takes on disk.
    pub fn volume_bytes(&self, volume: &Volume) -> Result<u64> {
        Ok(tree::allocated_bytes(&volume.folder)?)
    }

    /// Removes a volume that no container has; with `force` one that does not exist is removed already.
    pub fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        match self.remove_unused(name) {
            Err(Error::Container(ContainerError::VolumeNotFound { .. })) if force => Ok(()),
            result => result.operation("remove volume", name),
        }
    }

    fn remove_unused(&self, name: &str) -> Result<()> {
        let _alone = self.volumes.alone()?;
        let volume = self.volumes.find(name)?;
        let users = users(&self.containers.list()?, volume.record.name.as_str());
        if let Some(user) = users.first() {
            let hint = format!("remove the container first: carrack rm {user}");
            return Err(Error::refused(format!("volume is in use by container {}", users.join(", ")), hint));
        }
        Ok(self.volumes.remove(&volume.record.name)?)
    }

    /// Removes volumes that no container has: those without a name of the user's, or `all`. Returns their names, and
    /// what they took.
    pub fn prune_volumes(&self, all: bool, filters: &VolumeFilters) -> Result<(Vec<String>, u64)> {
        let _alone = self.volumes.alone()?;
        let (mut removed, mut bytes) = (Vec::new(), 0);
        for VolumeUse { volume, containers } in self.list_volumes(filters)? {
            if containers.is_empty() && (all || volume.record.anonymous) {
                bytes += self.volume_bytes(&volume)?;
                self.volumes.remove(&volume.record.name).operation("prune", "volumes")?;
                removed.push(volume.record.name.to_string());
            }
        }
        Ok((removed, bytes))
    }

    /// Removes the volumes that a container, which is gone, had for itself.
    pub(crate) fn remove_own_volumes(&self, record: &ContainerRecord) -> Result<()> {
        let own: Vec<&str> = record.host.mounts.own_volumes().collect();
        if own.is_empty() {
            return Ok(());
        }
        let _alone = self.volumes.alone()?;
        let containers = self.containers.list()?;
        for name in own.into_iter().filter(|name| users(&containers, name).is_empty()) {
            match self.volumes.remove(&name.parse()?) {
                Ok(()) | Err(ContainerError::VolumeNotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The containers that have a volume.
fn users(containers: &[Container], name: &str) -> Vec<String> {
    let has = |container: &&Container| {
        container.record.host.mounts.points.iter().any(|point| point.volume() == Some(name))
    };
    containers.iter().filter(has).map(|container| container.record.name.to_string()).collect()
}

fn volume_json(volume: &Volume) -> Value {
    let record = &volume.record;
    let mut labels = record.labels.clone();
    if record.anonymous {
        labels.insert("com.docker.volume.anonymous".to_owned(), String::new());
    }
    json!({
        "CreatedAt": record.created.to_string(),
        "Driver": "local",
        "Labels": if labels.is_empty() { Value::Null } else { json!(labels) },
        "Mountpoint": volume.data(),
        "Name": record.name.as_str(),
        "Options": if record.options.is_empty() { Value::Null } else { json!(record.options) },
        "Scope": "local",
    })
}

/// What the options of the driver `local` mean; those that carrack cannot do are refused.
pub(crate) fn volume_content(record: &VolumeRecord) -> Result<VolumeContent> {
    let refuse = |message: String, hint: &str| Err(Error::refused(message, hint));
    let options = &record.options;
    if let Some(key) = options.keys().find(|key| !matches!(key.as_str(), "type" | "device" | "o")) {
        return refuse(format!("invalid option {key:?} of a volume: expected type, device or o"), "");
    }
    let get = |key: &str| options.get(key).map_or("", String::as_str);
    let (kind, device) = (get("type"), get("device"));
    let flags: Vec<&str> = get("o").split(',').filter(|option| !option.is_empty()).collect();
    let binds = kind == "bind" || flags.iter().any(|flag| matches!(*flag, "bind" | "rbind"));
    match kind {
        "" if options.is_empty() => Ok(VolumeContent::Data),
        "tmpfs" => Ok(VolumeContent::Tmpfs(flags.into_iter().map(str::to_owned).collect())),
        "none" | "bind" | "" if binds => {
            if !device.starts_with('/') {
                return refuse(
                    format!("invalid device {device:?} of a volume: expected an absolute path"),
                    "as in --opt device=/srv/data",
                );
            }
            let unknown = flags.iter().find(|flag| !matches!(**flag, "bind" | "rbind" | "ro" | "rw"));
            match unknown {
                Some(flag) => {
                    refuse(format!("invalid option {flag:?} of a bind: expected bind, ro or rw"), "")
                }
                None => Ok(VolumeContent::Bind { path: device.into(), read_only: flags.contains(&"ro") }),
            }
        }
        other => refuse(
            format!("volumes of type {other:?} are not supported: expected tmpfs, or none with o=bind"),
            "mount it on the host, and bind that folder",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(options: &[(&str, &str)]) -> Result<VolumeContent> {
        volume_content(&VolumeRecord {
            name: "v1".parse().unwrap(),
            created: Timestamp::now(),
            labels: BTreeMap::new(),
            options: options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            anonymous: false,
        })
    }

    #[test]
    fn options_of_the_driver_mean_what_docker_says_or_are_refused() {
        assert_eq!(content(&[]).unwrap(), VolumeContent::Data);
        let bind = content(&[("type", "none"), ("o", "bind,ro"), ("device", "/srv")]).unwrap();
        assert_eq!(bind, VolumeContent::Bind { path: "/srv".into(), read_only: true });
        let tmpfs = content(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,uid=3")]).unwrap();
        assert_eq!(tmpfs, VolumeContent::Tmpfs(vec!["size=1m".into(), "uid=3".into()]));
        for wrong in [
            &[("type", "nfs"), ("device", ":/x")][..],
            &[("type", "none"), ("device", "/x")],
            &[("type", "none"), ("o", "bind"), ("device", "x")],
            &[("colour", "red")],
        ] {
            assert!(content(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn filters_are_read_or_refused() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let good = ["dangling=true", "driver=local", "name=x", "label=a=b", "label!=a", "until=1h"];
        assert!(VolumeFilters::parse(&texts(&good)).is_ok());
        for wrong in ["dangling=x", "nope=1", "name"] {
            assert!(VolumeFilters::parse(&texts(&[wrong])).is_err(), "{wrong}");
        }
    }
}
