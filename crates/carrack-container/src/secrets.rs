//! Secrets: small pieces of data that containers are shown, and that no record, image or listing has.
//!
//! ```text
//! <root>/secrets/               0700
//!   <name>                      0600: a line of JSON, then the data; replaced whole
//!   lock                        whoever makes or removes one
//! ```
//!
//! Invariant: the data leaves the store only by [`SecretStore::read`]; what is listed has none of it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use carrack_sys::IoContext;
use carrack_sys::atomic::{self, Durability};
use carrack_sys::lock::Lock;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ContainerId, Error, Result, small_file};

/// The most that a secret may hold (podman's limit).
pub const MAX_SECRET_BYTES: usize = 512_000;
const MAX_NAME_BYTES: usize = 253;
const LOCK: &str = "lock";

/// What is known of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRecord {
    /// 25 hex digits; another secret of the same name has another.
    pub id: String,
    /// The name.
    pub name: String,
    /// When a secret of this name was made.
    pub created: Timestamp,
    /// When its data was last replaced.
    pub updated: Timestamp,
    /// The user's labels; never read by carrack.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// The data of a secret; not shown in any form.
pub struct SecretData(Vec<u8>);

impl SecretData {
    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// The secrets below one root.
#[derive(Clone, Debug)]
pub struct SecretStore {
    folder: PathBuf,
}

impl SecretStore {
    /// The store in `folder`, which is made when there is something to put into it.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Makes a secret, durable when this returns; with `replace` in the place of one that has the name.
    pub fn create(
        &self,
        name: &str,
        data: &[u8],
        labels: BTreeMap<String, String>,
        replace: bool,
    ) -> Result<SecretRecord> {
        let path = self.path(name)?;
        if data.is_empty() || data.len() > MAX_SECRET_BYTES {
            return Err(Error::SecretSize { bytes: data.len() });
        }
        atomic::create_private_dir(&self.folder)?;
        let _lock = Lock::exclusive(&self.folder.join(LOCK))?;
        let known = self.get(name)?;
        if known.is_some() && !replace {
            return Err(Error::SecretExists { name: name.to_owned() });
        }
        let now = Timestamp::now();
        let record = SecretRecord {
            id: ContainerId::random()?.as_str()[..25].to_owned(),
            name: name.to_owned(),
            created: known.map_or(now, |known| known.created),
            updated: now,
            labels,
        };
        let mut bytes = serde_json::to_vec(&record).expect("a record has string keys only");
        bytes.push(b'\n');
        bytes.extend_from_slice(data);
        atomic::write(&path, &bytes, 0o600, Durability::Durable)?;
        Ok(record)
    }

    /// The secret that a user names: a name, an id, or the beginning of an id that no other has.
    pub fn find(&self, text: &str) -> Result<SecretRecord> {
        let not_found = || Error::SecretNotFound { name: text.chars().take(MAX_NAME_BYTES).collect() };
        if is_name(text)
            && let Some(record) = self.get(text)?
        {
            return Ok(record);
        }
        let mut fits = self.list()?;
        fits.retain(|record| !text.is_empty() && record.id.starts_with(text));
        match fits.len() {
            1 => Ok(fits.remove(0)),
            _ => Err(not_found()),
        }
    }

    /// The data of the secret of this name.
    pub fn read(&self, name: &str) -> Result<SecretData> {
        let read =
            small_file::read_with(&self.path(name)?, |bytes| split(bytes).map(|(_, data)| data.to_vec()))?;
        let data = read.flatten().ok_or_else(|| Error::SecretNotFound { name: name.to_owned() })?;
        Ok(SecretData(data))
    }

    /// All secrets, by name.
    pub fn list(&self) -> Result<Vec<SecretRecord>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.during("read the folder", &self.folder)?,
        };
        let mut records = Vec::new();
        for entry in entries {
            let name = entry.during("read the folder", &self.folder)?.file_name();
            let name = name.to_string_lossy();
            if is_name(&name) && *name != *LOCK {
                // One that is removed meanwhile is none.
                records.extend(self.get(&name)?);
            }
        }
        records.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(records)
    }

    /// Removes the secret of this name.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        let _lock = Lock::exclusive(&self.folder.join(LOCK))?;
        Ok(atomic::remove_file(&path)?)
    }

    fn get(&self, name: &str) -> Result<Option<SecretRecord>> {
        let path = self.path(name)?;
        let record = small_file::read_with(&path, |bytes| {
            split(bytes).map(|(record, _)| serde_json::from_slice::<SecretRecord>(record))
        })?;
        record.flatten().transpose().map_err(|source| Error::Corrupt { path, source })
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        match is_name(name) && name != LOCK {
            true => Ok(self.folder.join(name)),
            false => Err(Error::InvalidSecretName { text: name.chars().take(100).collect() }),
        }
    }
}

/// Podman's rule: letters, digits, and within also `-`, `_` and `.`.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=MAX_NAME_BYTES).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte))
        && bytes[0].is_ascii_alphanumeric()
        && bytes[bytes.len() - 1].is_ascii_alphanumeric()
}

/// The record and the data in the content of a file.
fn split(content: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = content.iter().position(|byte| *byte == b'\n')?;
    Some((&content[..end], &content[end + 1..]))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn store() -> (tempfile::TempDir, SecretStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = SecretStore::new(folder.path().join("secrets"));
        (folder, store)
    }

    #[test]
    fn a_secret_is_kept_replaced_and_removed() {
        let (folder, store) = store();
        assert!(store.list().unwrap().is_empty());
        let data = b"line\n{\"id\": 0}\nlast\xff";
        let made = store.create("token", data, BTreeMap::new(), false).unwrap();
        assert_eq!(store.read("token").unwrap().expose(), data);
        assert_eq!(
            (store.find("token").unwrap(), store.find(&made.id[..5]).unwrap()),
            (made.clone(), made.clone())
        );
        let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("secrets"), mode("secrets/token")), (0o700, 0o600));
        assert!(matches!(
            store.create("token", b"x", BTreeMap::new(), false),
            Err(Error::SecretExists { .. })
        ));
        let again = store.create("token", b"new", BTreeMap::new(), true).unwrap();
        assert!(again.id != made.id && again.created == made.created);
        assert_eq!(store.read("token").unwrap().expose(), b"new");
        store.remove("token").unwrap();
        assert!(matches!(store.find("token"), Err(Error::SecretNotFound { .. })));
        assert!(store.read("token").is_err());
    }

    #[test]
    fn odd_names_and_sizes_are_refused() {
        let (_folder, store) = store();
        for name in ["", ".", "..", "a/b", "-a", "a-", "lock", "a b", "../token", &"a".repeat(254)] {
            assert!(store.create(name, b"x", BTreeMap::new(), false).is_err(), "{name:?} was accepted");
        }
        for data in [&b""[..], &[0; MAX_SECRET_BYTES + 1]] {
            assert!(matches!(store.create("a", data, BTreeMap::new(), false), Err(Error::SecretSize { .. })));
        }
        store.create("a", &[0; MAX_SECRET_BYTES], BTreeMap::new(), false).unwrap();
    }
}
