//! Leased addresses as files. A lease exists before the kernel knows its address and goes after the kernel forgot it,
//! so that what a crash left can be found by it.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::atomic::{self, Durability};
use carrack_sys::lock::Lock;

use crate::{Attachment, Error, InterfaceName, Result};

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

    fn path(&self, address: Ipv4Addr) -> PathBuf {
        self.folder.join(address.to_string())
    }

    fn last_path(&self) -> PathBuf {
        self.folder.join("last")
    }
}
