//! Volumes: folders that live longer than the containers which see them.
//!
//! Invariant: a volume exists when its folder has its name, which is given last; a removal takes the name away first.
//! Whoever writes a container that names volumes holds the lock shared, whoever removes one holds it alone, so that
//! a volume in use is never removed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use carrack_sys::atomic::{self, Durability};
use carrack_sys::lock::Lock;
use carrack_sys::{IoContext, tree};
use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::{ContainerId, Error, Result, small_file};

const RECORD: &str = "volume.json";
const DATA: &str = "_data";
const DAMAGED: &str = "volume.json.damaged";
const LOCK: &str = ".lock";
const NEW: &str = ".new-";
const REMOVED: &str = ".removed-";
const MAX_NAME_BYTES: usize = 255;

/// A checked name of a volume: a letter or digit, then letters, digits, `_`, `.`, `-` (Docker's rule).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

impl VolumeName {
    /// A name of 64 hex digits for a volume that no one named.
    pub fn random() -> Result<Self> {
        Ok(Self(ContainerId::random()?.as_str().to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = text.as_bytes();
        let valid = (1..=MAX_NAME_BYTES).contains(&bytes.len())
            && bytes[0].is_ascii_alphanumeric()
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte));
        match valid {
            true => Ok(Self(text.to_owned())),
            false => Err(Error::InvalidVolumeName { text: text.chars().take(100).collect() }),
        }
    }
}

impl TryFrom<String> for VolumeName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> Self {
        name.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What was asked for with `volume create`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// The name.
    pub name: VolumeName,
    /// When it was made.
    pub created: Timestamp,
    /// The user's labels; never read by carrack.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Options of the driver `local`: `type`, `device`, `o`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Whether a container made it for itself.
    #[serde(default)]
    pub anonymous: bool,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// What was asked for.
    pub record: VolumeRecord,
    /// Its folder, which holds the content in [`Volume::data`].
    pub folder: PathBuf,
}

impl Volume {
    /// The content.
    pub fn data(&self) -> PathBuf {
        self.folder.join(DATA)
    }
}

/// The volumes below one root.
#[derive(Clone, Debug)]
pub struct VolumeStore {
    folder: PathBuf,
}

impl VolumeStore {
    /// The store in `folder`, which is made when there is something to put into it.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where the volumes are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps volumes from being removed.
    pub fn hold(&self) -> Result<Lock> {
        atomic::create_private_dir(&self.folder)?;
        Ok(Lock::shared(&self.folder.join(LOCK))?)
    }

    /// Waits until nobody holds volumes, and keeps others from doing so.
    pub fn alone(&self) -> Result<Lock> {
        atomic::create_private_dir(&self.folder)?;
        Ok(Lock::exclusive(&self.folder.join(LOCK))?)
    }

    /// Makes a volume, empty and durable when this returns. The caller holds the lock.
    pub fn create(&self, record: &VolumeRecord) -> Result<Volume> {
        let folder = self.folder.join(record.name.as_str());
        let new = self.folder.join(format!("{NEW}{}", ContainerId::random()?.short()));
        let made = self.create_as(&new, &folder, record);
        if made.is_err() {
            tree::remove_tree(&new)?;
        }
        made.map(|()| Volume { record: record.clone(), folder })
    }

    fn create_as(&self, new: &Path, folder: &Path, record: &VolumeRecord) -> Result<()> {
        atomic::create_private_dir(new)?;
        make_data(&new.join(DATA))?;
        let bytes = serde_json::to_vec(record).expect("a record has string keys only");
        atomic::write(&new.join(RECORD), &bytes, 0o600, Durability::Durable)?;
        match renameat_with(CWD, new, CWD, folder, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => return Err(Error::VolumeExists { name: record.name.to_string() }),
            result => result.during("rename to", folder)?,
        }
        Ok(atomic::sync_parent(folder)?)
    }

    /// The volume of this name.
    pub fn get(&self, name: &VolumeName) -> Result<Volume> {
        let folder = self.folder.join(name.as_str());
        let path = folder.join(RECORD);
        let record = small_file::read_with(&path, |bytes| serde_json::from_slice(bytes))?
            .ok_or_else(|| Error::VolumeNotFound { name: name.to_string() })?
            .map_err(|source| Error::Corrupt { path, source })?;
        Ok(Volume { record, folder })
    }

    /// The volume that a user names: a name, or the beginning of one that no other has.
    pub fn find(&self, text: &str) -> Result<Volume> {
        let name: VolumeName = text.parse()?;
        match self.get(&name) {
            Err(Error::VolumeNotFound { .. }) => {}
            found => return found,
        }
        let mut fits = self.names()?;
        fits.retain(|known| known.as_str().starts_with(text));
        match fits.as_slice() {
            [only] => self.get(only),
            _ => Err(Error::VolumeNotFound { name: text.to_owned() }),
        }
    }

    /// All volumes by name. One that cannot be read is left out with a warning, so that the others stay usable.
    pub fn list(&self) -> Result<Vec<Volume>> {
        let mut volumes = Vec::new();
        for name in self.names()? {
            match self.get(&name) {
                Ok(volume) => volumes.push(volume),
                Err(Error::VolumeNotFound { .. }) => {}
                Err(error) => tracing::warn!(volume = %name, %error, "volume left out"),
            }
        }
        Ok(volumes)
    }

    /// The names of all volumes, sorted, also of those that cannot be read.
    pub fn names(&self) -> Result<Vec<VolumeName>> {
        let mut names: Vec<VolumeName> =
            self.entries()?.iter().filter_map(|name| name.parse().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Removes a volume with its content. The caller holds the lock alone and knows that no container names it.
    pub fn remove(&self, name: &VolumeName) -> Result<()> {
        let folder = self.folder.join(name.as_str());
        let removed = self.folder.join(format!("{REMOVED}{}", ContainerId::random()?.short()));
        match fs::rename(&folder, &removed) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::VolumeNotFound { name: name.to_string() });
            }
            result => result.during("rename", &folder)?,
        }
        atomic::sync_parent(&folder)?;
        Ok(tree::remove_tree(&removed)?)
    }

    /// Why a volume cannot be used, if it cannot.
    pub fn damage(&self, name: &VolumeName) -> Result<Option<String>> {
        let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        Ok(match self.get(name) {
            _ if !self.is_folder(name) => None, // removed meanwhile, or a stray
            Ok(volume) if volume.record.name != *name => {
                Some(format!("its record is that of the volume {}", volume.record.name))
            }
            Ok(volume) if !is_folder(&volume.data()) => {
                Some("the folder of its content is missing".to_owned())
            }
            Ok(_) => None,
            Err(Error::VolumeNotFound { .. }) => Some("its record is missing".to_owned()),
            Err(error) => Some(error.to_string()),
        })
    }

    /// Whether there is a folder of this name; anything else is a stray.
    fn is_folder(&self, name: &VolumeName) -> bool {
        fs::symlink_metadata(self.folder.join(name.as_str())).is_ok_and(|found| found.is_dir())
    }

    /// Makes a damaged volume one that can be used: its content stays, labels and options are lost with the record,
    /// which is kept beside the new one. The caller holds the lock alone.
    pub fn restore(&self, name: &VolumeName) -> Result<()> {
        let folder = self.folder.join(name.as_str());
        let record = match self.get(name) {
            Ok(volume) if volume.record.name == *name => volume.record,
            _ => VolumeRecord {
                name: name.clone(),
                created: Timestamp::now(),
                labels: BTreeMap::new(),
                options: BTreeMap::new(),
                anonymous: false,
            },
        };
        let path = folder.join(RECORD);
        match fs::rename(&path, folder.join(DAMAGED)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.during("rename", &path)?,
        }
        let data = folder.join(DATA);
        if !data.is_dir() {
            make_data(&data)?;
        }
        let bytes = serde_json::to_vec(&record).expect("a record has string keys only");
        Ok(atomic::write(&path, &bytes, 0o600, Durability::Durable)?)
    }

    /// What is neither a volume, nor the lock, nor left by something that was cut short: not carrack's.
    pub fn strays(&self) -> Result<Vec<PathBuf>> {
        let is_known = |name: &String| {
            name == LOCK
                || name.starts_with(NEW)
                || name.starts_with(REMOVED)
                || name.parse::<VolumeName>().is_ok_and(|name| self.is_folder(&name))
        };
        let entries = self.entries()?.into_iter().filter(|name| !is_known(name));
        Ok(entries.map(|name| self.folder.join(name)).collect())
    }

    /// What creations and removals left that were cut short. The caller holds the lock alone.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>> {
        let is_left = |name: &String| name.starts_with(NEW) || name.starts_with(REMOVED);
        Ok(self.entries()?.into_iter().filter(is_left).map(|name| self.folder.join(name)).collect())
    }

    fn entries(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.during("list", &self.folder)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.during("list", &self.folder)?;
            names.extend(entry.file_name().into_string());
        }
        Ok(names)
    }
}

fn make_data(path: &Path) -> Result<()> {
    fs::create_dir(path).during("create the folder", path)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    Ok(fs::set_permissions(path, mode).during("set the mode of", path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> VolumeRecord {
        VolumeRecord {
            name: name.parse().unwrap(),
            created: Timestamp::now(),
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            options: BTreeMap::new(),
            anonymous: false,
        }
    }

    #[test]
    fn a_volume_is_found_by_its_name_and_gone_when_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = VolumeStore::new(folder.path().join("volumes"));
        assert!(store.list().unwrap().is_empty());
        let _lock = store.hold().unwrap();
        let made = store.create(&record("data")).unwrap();
        assert!(made.data().is_dir());
        assert!(matches!(store.create(&record("data")), Err(Error::VolumeExists { .. })));
        assert_eq!(store.find("data").unwrap(), made);
        assert_eq!(store.find("da").unwrap(), made);
        assert!(store.leftovers().unwrap().is_empty());
        store.remove(&made.record.name).unwrap();
        assert!(matches!(store.get(&made.record.name), Err(Error::VolumeNotFound { .. })));
        assert_eq!(store.entries().unwrap(), [".lock"]);
    }

    /// The name of a volume, what is said of it, and how it is damaged.
    type Case<'a> = (&'a str, &'a str, &'a dyn Fn(&Volume));

    #[test]
    fn a_damaged_volume_is_told_and_keeps_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let store = VolumeStore::new(folder.path().to_owned());
        let _lock = store.alone().unwrap();
        let damage = |name: &str| store.damage(&name.parse().unwrap()).unwrap();
        let overwrite = |volume: &Volume| fs::write(volume.folder.join(RECORD), "{").unwrap();
        let forget = |volume: &Volume| fs::remove_file(volume.folder.join(RECORD)).unwrap();
        let empty = |volume: &Volume| fs::remove_dir_all(volume.data()).unwrap();
        let exchange = |volume: &Volume| {
            fs::write(volume.folder.join(RECORD), serde_json::to_vec(&record("half")).unwrap()).unwrap();
        };
        let cases: [Case<'_>; 4] = [
            ("half", "volume.json", &overwrite),
            ("bare", "its record is missing", &forget),
            ("empty", "content is missing", &empty),
            ("other", "is that of the volume half", &exchange),
        ];
        for (name, said, harm) in cases {
            let made = store.create(&record(name)).unwrap();
            fs::write(made.data().join("file"), "kept").unwrap();
            assert_eq!(damage(name), None);
            harm(&made);
            let found = damage(name).unwrap();
            assert!(found.contains(said), "{name}: {found}");
            store.restore(&made.record.name).unwrap();
            assert_eq!(damage(name), None, "{name}");
            assert_eq!(made.data().join("file").exists(), name != "empty", "{name}");
        }
        assert_eq!(fs::read_to_string(folder.path().join("half/volume.json.damaged")).unwrap(), "{");
        fs::write(folder.path().join("file"), "").unwrap();
        fs::create_dir(folder.path().join("-no-name")).unwrap();
        let mut strays = store.strays().unwrap();
        strays.sort();
        assert_eq!(strays, ["-no-name", "file"].map(|name| folder.path().join(name)));
    }

    #[test]
    fn what_was_cut_short_is_no_volume() {
        let folder = tempfile::tempdir().unwrap();
        let store = VolumeStore::new(folder.path().to_owned());
        fs::create_dir(folder.path().join(".new-x")).unwrap();
        fs::create_dir(folder.path().join(".removed-x")).unwrap();
        assert!(store.list().unwrap().is_empty());
        assert_eq!(store.leftovers().unwrap().len(), 2);
    }

    #[test]
    fn refuses_what_could_become_a_path_or_an_option() {
        for text in ["", ".", "..", ".lock", "a/b", "-a", "_a", "a b", "a\n", "ä", &"a".repeat(256)] {
            assert!(text.parse::<VolumeName>().is_err(), "{text:?} was accepted");
        }
        assert!("a".parse::<VolumeName>().is_ok() && VolumeName::random().is_ok());
    }
}
