//! Where the host has its cgroup hierarchies: v1, v2, or both.

use std::fs;
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;

use crate::Result;

/// A folder in a v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Controllers of the hierarchy as its mount is named, e.g. "cpu,cpuacct".
    pub controllers: String,
    /// The folder.
    pub folder: PathBuf,
}

impl Hierarchy {
    /// Whether `controller` is one of the hierarchy's.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|one| one == controller)
    }

    /// The folder `relative` in the same hierarchy.
    pub(super) fn below(&self, relative: &Path) -> Self {
        Self { controllers: self.controllers.clone(), folder: self.folder.join(relative) }
    }
}

/// The hierarchies of a host.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Roots of the v1 hierarchies.
    pub v1: Vec<Hierarchy>,
    /// Root of the v2 tree.
    pub v2: Option<PathBuf>,
    /// Controllers that the v2 tree has.
    pub v2_controllers: Vec<String>,
}

impl Layout {
    /// Looks at `/sys/fs/cgroup`.
    pub fn host() -> Result<Self> {
        Self::detect(Path::new("/sys/fs/cgroup"))
    }

    /// Looks at `root`: a v2 tree, or a folder of v1 hierarchies of which one (`unified`) may be a v2 tree.
    pub fn detect(root: &Path) -> Result<Self> {
        let mut layout = Self::default();
        if layout.add_v2(root)? {
            return Ok(layout);
        }
        for entry in fs::read_dir(root).during("read the folder", root)? {
            let entry = entry.during("read the folder", root)?;
            // Links are second names of hierarchies ("cpu" for "cpu,cpuacct").
            let is_folder = entry.file_type().during("examine", entry.path())?.is_dir();
            let folder = entry.path();
            if is_folder && !layout.add_v2(&folder)? && folder.join("cgroup.procs").exists() {
                let controllers = entry.file_name().to_string_lossy().into_owned();
                layout.v1.push(Hierarchy { controllers, folder });
            }
        }
        Ok(layout)
    }

    /// Whether all is in one tree of version 2.
    pub fn is_unified(&self) -> bool {
        self.v2.is_some() && self.v1.is_empty()
    }

    fn add_v2(&mut self, folder: &Path) -> Result<bool> {
        let Some(controllers) = super::read(folder, "cgroup.controllers")? else { return Ok(false) };
        self.v2 = Some(folder.to_owned());
        self.v2_controllers = controllers.split_ascii_whitespace().map(str::to_owned).collect();
        Ok(true)
    }

    /// The v1 hierarchy of `controller`.
    pub(super) fn v1_of(&self, controller: &str) -> Option<&Hierarchy> {
        self.v1.iter().find(|hierarchy| hierarchy.has(controller))
    }
}
