//! The containers as they lie on disk, for who looks for damage.
//!
//! Invariant: a container that cannot be read does not hide the others.

use std::path::PathBuf;

use crate::store::{REMOVED, file_names};
use crate::{Container, ContainerId, ContainerName, ContainerRecord, ContainerStore, Error, Result};

/// What the folders of containers and names hold.
#[derive(Debug, Default)]
pub struct Scan {
    /// The containers that can be read.
    pub containers: Vec<Container>,
    /// Containers whose files cannot be read, and why.
    pub damaged: Vec<(ContainerId, Error)>,
    /// Containers that are whole, but what stands under their name is no link to them.
    pub unlinked: Vec<(ContainerId, ContainerName)>,
    /// What is no name in the folder of names, and belongs to no container.
    pub strays: Vec<PathBuf>,
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
                Err(error) => match self.unlinked(&id) {
                    Some(name) => scan.unlinked.push((id, name)),
                    None => scan.damaged.push((id, error)),
                },
            }
        }
        let look = self.names.look()?;
        let is_somebodys = |path: &PathBuf| {
            scan.unlinked.iter().any(|(_, name)| path.file_name() == Some(name.as_str().as_ref()))
        };
        scan.strays = look.strays.into_iter().filter(|path| !is_somebodys(path)).collect();
        for (name, id) in look.links {
            let is_damaged = scan.damaged.iter().any(|(damaged, _)| *damaged == id);
            if !is_damaged && !self.owns(&id, &name)? {
                scan.leftovers.push(self.names.link(&name));
            }
        }
        Ok(scan)
    }

    /// The name of a container whose record can be read, where something else than a link has the name.
    fn unlinked(&self, id: &ContainerId) -> Option<ContainerName> {
        let record = self.read_record::<ContainerRecord>(id).ok()??;
        self.names.get(&record.name).is_err().then_some(record.name)
    }

    /// Gives a container of [`Scan::unlinked`] its name again.
    pub fn link_again(&self, id: &ContainerId, name: &ContainerName) -> Result<()> {
        self.names.restore(name, id)
    }
}
