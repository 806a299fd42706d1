//! Looking for damage: no operation makes any of what is reported here, so it comes from a failing disk, from somebody
//! else's hands, or from a fault of carrack's own.
//!
//! Invariant: one damaged snapshot does not hide another; only a folder that cannot be listed is an error.

use std::io::Read;
use std::path::{Path, PathBuf};

use carrack_oci::ChainId;
use carrack_sys::atomic;
use carrack_sys::rooted::Root;

use crate::folders::{Folders, files_of, folder_names, parse_file_name};
use crate::record::Record;
use crate::{Result, SnapshotKey, SnapshotName};

/// One thing that is wrong in a store of snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which snapshot is damaged; `None` when the path belongs to none.
    pub snapshot: Option<SnapshotName>,
    /// What [`Snapshots::remove_damaged`](crate::Snapshots::remove_damaged) takes away.
    pub path: PathBuf,
    /// What was expected and what is there.
    pub reason: String,
}

/// What is wrong with one snapshot beyond its record, as its driver sees it.
type Damage<'a> = &'a dyn Fn(&SnapshotName, &Path, &Record) -> Result<Option<String>>;

impl Folders {
    /// Everything that is wrong below `committed/` and `active/`.
    pub fn find_problems(&self, damage: Damage<'_>) -> Result<Vec<Problem>> {
        let mut problems = Vec::new();
        for name in folder_names(&self.root.join("committed"))? {
            let path = self.root.join("committed").join(&name);
            let id = parse_file_name(&name).map(ChainId);
            problems.extend(self.problem(id.map(SnapshotName::Committed), path, damage));
        }
        for name in folder_names(&self.root.join("active"))? {
            let path = self.root.join("active").join(&name);
            let key = SnapshotKey::new(&name).ok();
            problems.extend(self.problem(key.map(SnapshotName::Key), path, damage));
        }
        Ok(problems)
    }

    fn problem(&self, snapshot: Option<SnapshotName>, path: PathBuf, damage: Damage<'_>) -> Option<Problem> {
        let reason = match &snapshot {
            None => Some("expected the name of a snapshot".to_owned()),
            Some(snapshot) => {
                self.damage(snapshot, &path, damage).unwrap_or_else(|error| Some(error.to_string()))
            }
        };
        // A snapshot may go away while it is looked at, and then nothing is wrong with it.
        reason.filter(|_| path.exists()).map(|reason| Problem { snapshot, path, reason })
    }

    fn damage(&self, snapshot: &SnapshotName, path: &Path, damage: Damage<'_>) -> Result<Option<String>> {
        let Some(record) = Record::read(path)? else { return Ok(Some("it has no record".to_owned())) };
        if let Some(absent) = record.ancestors.iter().find(|id| !self.committed(id).exists()) {
            return Ok(Some(format!("it stands on {absent}, which is not there")));
        }
        if matches!(snapshot, SnapshotName::Committed(_)) && record.usage.is_none() {
            return Ok(Some("its record does not say what it holds".to_owned()));
        }
        damage(snapshot, path, &record)
    }

    /// Compares the files of a committed snapshot with the layer that they were made of.
    pub fn compare_files(&self, id: &ChainId, tar: &mut dyn Read) -> Result<Option<Problem>> {
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

    /// Takes away what was found.
    pub fn remove_damaged(&self, problem: &Problem) -> Result<()> {
        let _lock = self.lock_alone()?;
        match problem.path.is_dir() {
            true => self.unname(&problem.path).map(drop),
            false => Ok(atomic::remove_file(&problem.path)?),
        }
    }
}

/// A snapshot that holds its files in a folder has that folder.
pub(crate) fn lacks_files(path: &Path, record: &Record) -> Option<String> {
    (!record.is_view && !files_of(path).is_dir()).then(|| "it has no files".to_owned())
}
