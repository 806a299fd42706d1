//! Looking for damage: no operation makes any of what is reported here, so it comes from a failing disk, from somebody
//! else's hands, or from a fault of carrack's own.
//!
//! Invariant: one damaged snapshot does not hide another; only a folder that cannot be listed is an error.

use std::io::Read;
use std::path::{Path, PathBuf};

use carrack_oci::ChainId;
use carrack_sys::rooted::Root;

use super::record::Record;
use super::{OverlaySnapshotter, folder_names};
use crate::snapshotter::files_of;
use crate::{Problem, Result, SnapshotKey, SnapshotName};

impl OverlaySnapshotter {
    pub(super) fn find_problems(&self) -> Result<Vec<Problem>> {
        let mut problems = Vec::new();
        for name in folder_names(&self.root.join("committed"))? {
            let path = self.root.join("committed").join(&name);
            let id = name.replacen('-', ":", 1).parse().ok().map(ChainId);
            problems.extend(self.problem(id.map(SnapshotName::Committed), path));
        }
        for name in folder_names(&self.root.join("active"))? {
            let path = self.root.join("active").join(&name);
            let key = SnapshotKey::new(&name).ok();
            problems.extend(self.problem(key.map(SnapshotName::Key), path));
        }
        Ok(problems)
    }

    fn problem(&self, snapshot: Option<SnapshotName>, path: PathBuf) -> Option<Problem> {
        let reason = match &snapshot {
            None => Some("expected the name of a snapshot".to_owned()),
            Some(snapshot) => self.damage(snapshot, &path).unwrap_or_else(|error| Some(error.to_string())),
        };
        // A snapshot may go away while it is looked at, and then nothing is wrong with it.
        reason.filter(|_| path.exists()).map(|reason| Problem { snapshot, path, reason })
    }

    fn damage(&self, snapshot: &SnapshotName, path: &Path) -> Result<Option<String>> {
        let Some(record) = Record::read(path)? else { return Ok(Some("it has no record".to_owned())) };
        if let Some(absent) = record.ancestors.iter().find(|id| !self.committed(id).exists()) {
            return Ok(Some(format!("it stands on {absent}, which is not there")));
        }
        if record.is_view {
            return Ok(None);
        }
        if !files_of(path).is_dir() {
            return Ok(Some("it has no files".to_owned()));
        }
        let is_counted = matches!(snapshot, SnapshotName::Key(_)) || record.usage.is_some();
        Ok((!is_counted).then(|| "its record does not say what it holds".to_owned()))
    }

    pub(super) fn compare(&self, id: &ChainId, tar: &mut dyn Read) -> Result<Option<Problem>> {
        let path = self.committed(id);
        let differences = carrack_layer::verify(tar, &Root::open(&files_of(&path))?)?;
        let Some(first) = differences.first() else { return Ok(None) };
        let others = match differences.len() - 1 {
            0 => String::new(),
            count => format!(" (and {count} more)"),
        };
        let reason = format!("{}: {}{others}", first.path.display(), first.reason);
        Ok(Some(Problem { snapshot: Some(SnapshotName::Committed(id.clone())), path, reason }))
    }
}
