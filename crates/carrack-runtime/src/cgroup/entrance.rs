//! The quick way into v1 cgroups.
//!
//! To move another process the kernel first waits until no process of the host can fork or end: some milliseconds (an
//! RCU grace period), and one process after the other. A thread that moves itself by `tasks` need not wait.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use carrack_sys::IoContext;

use super::Cgroup;
use crate::Result;

/// The `tasks` files of a container's v1 folders, opened by who may write to them.
#[derive(Debug, Default)]
pub(crate) struct Entrances(Vec<(File, PathBuf)>);

impl Entrances {
    pub(crate) fn open(cgroup: Option<&Cgroup>) -> Result<Self> {
        let open = |folder: PathBuf| {
            let path = folder.join("tasks");
            let file = File::options().write(true).open(&path).during("open", &path)?;
            Ok((file, path))
        };
        let folders = cgroup.iter().flat_map(|cgroup| &cgroup.v1).map(|one| one.folder.clone());
        Ok(Self(folders.map(open).collect::<Result<_>>()?))
    }

    /// Moves the calling process, which has one thread.
    pub(crate) fn enter(&self) -> Result<()> {
        for (file, path) in &self.0 {
            (&mut &*file).write_all(b"0").during("enter the cgroup by", path)?;
        }
        Ok(())
    }
}
