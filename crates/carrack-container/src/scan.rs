//! The containers as they lie on disk, for who looks for damage.
//!
//! Invariant: a container that cannot be read does not hide the others.

use std::path::PathBuf;

use crate::store::{REMOVED, file_names};
use crate::{Container, ContainerId, ContainerStore, Error, Result};

/// What the folders of containers and names hold.
#[derive(Debug, Default)]
pub struct Scan {
    /// The containers that can be read.
    pub containers: Vec<Container>,
    /// Containers whose files cannot be read, and why.
    pub damaged: Vec<(ContainerId, Error)>,
    /// What crashes left, and [`ContainerStore::sweep`] takes away.
    pub leftovers: Vec<PathBuf>,
}

impl ContainerStore {
    /// Looks at every container and every name.
    pub fn scan(&self) -> Result<Scan> {
        let mut scan = Scan::default();
        let removed = file_names(&self.containers)?.into_iter().filter(|name| name.starts_with(REMOVED));
        scan.leftovers.extend(removed.map(|name| self.containers.join(name)));
        for id in self.ids()? {
            match self.get_existing(&id) {
                Ok(Some(container)) => scan.containers.push(container),
                Ok(None) => {
                    let folders = [self.folder(&id), self.run_folder(&id)];
                    scan.leftovers.extend(folders.into_iter().filter(|folder| folder.exists()));
                }
                Err(error) => scan.damaged.push((id, error)),
            }
        }
        for (name, id) in self.names.list()? {
            let is_damaged = scan.damaged.iter().any(|(damaged, _)| *damaged == id);
            if !is_damaged && !self.owns(&id, &name)? {
                scan.leftovers.push(self.names.link(&name));
            }
        }
        Ok(scan)
    }
}
