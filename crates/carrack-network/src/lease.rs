//! Leased addresses as files. A lease exists before the kernel knows its address and goes after the kernel forgot it,
//! so that what a crash left can be found by it.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use carrack_sys::atomic::{self, Durability};
use carrack_sys::lock::Lock;
use carrack_sys::{IoContext, tree};

use crate::{Attachment, Error, InterfaceName, Result};

/// What a state folder holds, for who looks for damage.
#[derive(Debug, Default)]
pub struct LeaseScan {
    /// The leases of all bridges.
    pub leases: Vec<Attachment>,
    /// Files that are no leases, and why.
    pub damaged: Vec<(PathBuf, String)>,
}

/// Looks at every lease of every bridge. What changes meanwhile is seen as it was or as it is.
pub fn scan(state_dir: &Path) -> Result<LeaseScan> {
    let mut scan = LeaseScan::default();
    for folder in paths_in(state_dir)? {
        if !folder.is_dir() {
            scan.damaged.push((folder, "it is no folder of a bridge".to_owned()));
            continue;
        }
        for path in paths_in(&folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if matches!(&*name, "lock" | "last") || (name.starts_with('.') && name.ends_with(".tmp")) {
                continue;
            }
            match read_lease(&path)? {
                Ok(lease) => scan.leases.extend(lease),
                Err(reason) => scan.damaged.push((path, reason)),
            }
        }
    }
    Ok(scan)
}

/// Removes what [`scan`] has found damaged; what has become a lease meanwhile stays.
pub fn remove_damaged(state_dir: &Path, path: &Path) -> Result<()> {
    let bridge = path.parent().filter(|folder| folder.parent() == Some(state_dir));
    let bridge =
        bridge.and_then(Path::file_name).and_then(|name| InterfaceName::new(name.to_string_lossy()).ok());
    match bridge {
        Some(bridge) => Leases::lock(state_dir, &bridge)?.remove_damaged(path),
        None => Ok(tree::remove_tree(path)?),
    }
}

fn paths_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>).during("list", folder)?,
    };
    let mut paths: Vec<_> = entries.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    Ok(paths)
}

/// The lease in a file, `None` when it is gone, or why it is none.
fn read_lease(path: &Path) -> Result<Result<Option<Attachment>, String>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Ok(address) = name.parse::<Ipv4Addr>() else { return Ok(Err("its name is no address".to_owned())) };
    let bytes = match atomic::read(path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Ok(None)),
        Err(error) => return Ok(Err(error.to_string())),
    };
    Ok(match serde_json::from_slice::<Attachment>(&bytes) {
        Ok(lease) if lease.address != address => Err(format!("it is the lease of {}", lease.address)),
        Ok(lease) => Ok(Some(lease)),
        Err(error) => Err(error.to_string()),
    })
}

/// The leases of one bridge, held alone until dropped.
pub(crate) struct Leases {
    folder: PathBuf,
    _lock: Lock,
}

impl Leases {
    /// Waits for the bridge's lock; makes its folder where missing.
    pub fn lock(state_dir: &Path, bridge: &InterfaceName) -> Result<Self> {
        let folder = state_dir.join(bridge.as_str());
        let lock_path = folder.join("lock");
        let lock = match Lock::exclusive(&lock_path) {
            Err(error) if error.is_not_found() => {
                atomic::create_private_dir(&folder)?;
                Lock::exclusive(&lock_path)?
            }
            result => result?,
        };
        Ok(Self { folder, _lock: lock })
    }

    /// The lease of an address, if it is leased.
    pub fn get(&self, address: Ipv4Addr) -> Result<Option<Attachment>> {
        match atomic::read(&self.path(address))? {
            Some(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Lease { address, source })
            }
            None => Ok(None),
        }
    }

    /// Leases an address and remembers it as the last one.
    pub fn put(&self, attachment: &Attachment) -> Result<()> {
        let address = attachment.address;
        let bytes = serde_json::to_vec(attachment).map_err(|source| Error::Lease { address, source })?;
        atomic::write(&self.path(address), &bytes, 0o600, Durability::Volatile)?;
        Ok(atomic::write(&self.last_path(), address.to_string().as_bytes(), 0o600, Durability::Volatile)?)
    }

    /// Gives an address back.
    pub fn remove(&self, address: Ipv4Addr) -> Result<()> {
        Ok(atomic::remove_file(&self.path(address))?)
    }

    /// The address that was leased last; a damaged mark only means to start anew.
    pub fn last(&self) -> Result<Option<Ipv4Addr>> {
        let bytes = atomic::read(&self.last_path())?.unwrap_or_default();
        Ok(std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok()))
    }

    /// All leases.
    pub fn list(&self) -> Result<Vec<Attachment>> {
        let entries = fs::read_dir(&self.folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let names = entries.during("list", &self.folder)?;
        let addresses = names.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        addresses.filter_map(|address| self.get(address).transpose()).collect()
    }

    /// Removes the file of a lease, if it still cannot be read.
    fn remove_damaged(&self, path: &Path) -> Result<()> {
        match read_lease(path)? {
            Err(_) => Ok(atomic::remove_file(path)?),
            Ok(_) => Ok(()),
        }
    }

    fn path(&self, address: Ipv4Addr) -> PathBuf {
        self.folder.join(address.to_string())
    }

    fn last_path(&self) -> PathBuf {
        self.folder.join("last")
    }
}
