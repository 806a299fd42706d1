//! Which kind of store is used: what the user wants, or the best that this host can do, found out by doing it.
//!
//! Invariant: a probe is repeated only when the kernel has changed, so that no command waits for it.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use carrack_content::ContentStore;
use carrack_layer::tar::{Entry, EntryKind, Writer};
use carrack_oci::ChainId;
use carrack_sys::atomic::{self, Durability};
use carrack_sys::tree;
use serde::{Deserialize, Serialize};

use crate::{ErofsSnapshotter, OverlaySnapshotter, Result, SnapshotKey, Snapshots, VfsSnapshotter};

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Driver {
    /// Layers stay tars, with EROFS indexes.
    Erofs,
    /// Layers are folders, which overlayfs stacks.
    Overlay,
    /// Every snapshot is a full copy.
    Vfs,
}

/// A text is not the name of a driver.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown storage driver {text:?}: expected erofs, overlay or vfs")]
pub struct DriverError {
    /// What was given.
    pub text: String,
}

/// A driver, and why it is that one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The driver.
    pub driver: Driver,
    /// Why.
    pub reason: String,
}

/// What a probe has found, as it is kept beside the stores.
#[derive(Serialize, Deserialize)]
struct Probed {
    kernel: String,
    choice: Choice,
}

impl Driver {
    /// All drivers, the best first.
    pub const ALL: [Self; 3] = [Self::Erofs, Self::Overlay, Self::Vfs];

    /// The name of the driver, and of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Erofs => "erofs",
            Self::Overlay => "overlay",
            Self::Vfs => "vfs",
        }
    }

    /// Opens the store of this driver in the folder `root` of all drivers. `content` has the tars of layers; `shares` is
    /// where processes say which mounts they hold.
    pub fn open(self, root: &Path, content: &ContentStore, shares: &Path) -> Result<Box<dyn Snapshots>> {
        let folder = root.join(self.name());
        Ok(match self {
            Self::Erofs => Box::new(ErofsSnapshotter::open(&folder, content, Some(shares))?),
            Self::Overlay => Box::new(OverlaySnapshotter::open(&folder)?),
            Self::Vfs => Box::new(VfsSnapshotter::open(&folder)?),
        })
    }

    /// Whether this driver has been used in `root`.
    pub fn has_store(self, root: &Path) -> bool {
        root.join(self.name()).is_dir()
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Driver {
    type Err = DriverError;

    /// `overlay2` is what Docker calls `overlay`.
    fn from_str(text: &str) -> std::result::Result<Self, DriverError> {
        match text {
            "erofs" => Ok(Self::Erofs),
            "overlay" | "overlay2" => Ok(Self::Overlay),
            "vfs" => Ok(Self::Vfs),
            _ => Err(DriverError { text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for Driver {
    type Error = DriverError;

    fn try_from(text: String) -> std::result::Result<Self, DriverError> {
        text.parse()
    }
}

impl From<Driver> for String {
    fn from(driver: Driver) -> Self {
        driver.name().to_owned()
    }
}

impl Choice {
    /// The driver that is wanted, or else the best that works in `root`.
    pub fn make(wanted: Option<Driver>, root: &Path) -> Result<Self> {
        if let Some(driver) = wanted {
            return Ok(Self { driver, reason: "it was asked for".to_owned() });
        }
        let file = root.join("driver.json");
        let kernel = kernel();
        let kept = atomic::read(&file)?.and_then(|bytes| serde_json::from_slice::<Probed>(&bytes).ok());
        if let Some(probed) = kept.filter(|probed| probed.kernel == kernel) {
            return Ok(probed.choice);
        }
        let choice = Self::probe(root)?;
        tracing::debug!(driver = %choice.driver, reason = choice.reason, "chose the storage driver");
        let probed = Probed { kernel, choice };
        let bytes = serde_json::to_vec(&probed).expect("a choice has string keys only");
        atomic::write(&file, &bytes, 0o600, Durability::Volatile)?;
        Ok(probed.choice)
    }

    /// Tries the drivers in turn with a snapshot of one file.
    fn probe(root: &Path) -> Result<Self> {
        let mut refused = Vec::new();
        for driver in [Driver::Erofs, Driver::Overlay] {
            let folder = ProbeFolder(root.join(SnapshotKey::unique("probe").as_str()));
            atomic::create_private_dir(&folder.0)?;
            match try_driver(driver, &folder.0) {
                Ok(()) => {
                    refused.push(format!("{driver} works here"));
                    return Ok(Self { driver, reason: refused.join("; ") });
                }
                Err(error) => refused.push(format!("{driver} does not work: {error}")),
            }
        }
        refused.push("vfs needs nothing".to_owned());
        Ok(Self { driver: Driver::Vfs, reason: refused.join("; ") })
    }
}

struct ProbeFolder(PathBuf);

impl Drop for ProbeFolder {
    fn drop(&mut self) {
        if let Err(error) = tree::remove_tree(&self.0) {
            tracing::warn!(%error, "the folder of a probe is left");
        }
    }
}

/// The kernel with its build, which decides what can be mounted.
fn kernel() -> String {
    let name = rustix::system::uname();
    format!("{} {}", name.release().to_string_lossy(), name.version().to_string_lossy())
}

/// Makes, mounts and writes to a snapshot on a layer of one file.
fn try_driver(driver: Driver, folder: &Path) -> Result<()> {
    let content = ContentStore::open(&folder.join("content"))?;
    let store = driver.open(folder, &content, &folder.join("shares"))?;
    let text = b"readable";
    let unpacked = store.unpack(&SnapshotKey::unique("probe"), &mut probe_layer(text)?.as_slice(), None)?;
    let id = ChainId::child(None, unpacked.diff_id());
    store.stack(unpacked, None, &id)?;
    let root = store.prepare(&SnapshotKey::unique("probe"), Some(&id))?.open_root()?;
    let unexpected = || std::io::Error::other("the kernel shows something else than was mounted");
    let written = |error| carrack_sys::Error { verb: "use", path: "a mount".into(), source: error };
    if root.read_small("file", 100)?.as_deref() != Some(text) {
        return Err(written(unexpected()).into());
    }
    root.at("new")?.create_file(0o600)?.write_all(text).map_err(written)?;
    Ok(())
}

fn probe_layer(text: &[u8]) -> Result<Vec<u8>> {
    let entry = Entry {
        path: "file".into(),
        kind: EntryKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        size_bytes: text.len() as u64,
        xattrs: Vec::new(),
    };
    let mut writer = Writer::new(Vec::new());
    writer.append(&entry, text)?;
    Ok(writer.finish()?)
}
