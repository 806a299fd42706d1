//! The image records as they lie on disk, for who looks for damage or counts bytes; and when each was used last.
//!
//! Invariant: a record that cannot be read does not hide the others.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use carrack_sys::IoContext;
use carrack_sys::atomic;

use crate::store::read_record;
use crate::{Error, ImageRecord, ImageStore, Result};

/// What the folder of image records holds.
#[derive(Debug, Default)]
pub struct Scan {
    /// The records that can be read.
    pub records: Vec<ImageRecord>,
    /// Files in the place of records that are none, and why.
    pub damaged: Vec<(PathBuf, Error)>,
    /// What crashed writers left.
    pub leftovers: Vec<PathBuf>,
}

impl ImageStore {
    /// Looks at every file of the folder.
    pub fn scan(&self) -> Result<Scan> {
        let mut scan = Scan::default();
        for entry in fs::read_dir(self.root()).during("list", self.root())? {
            let path = entry.during("list", self.root())?.path();
            let kind = path.extension().and_then(|extension| extension.to_str());
            match kind {
                Some("tmp") => scan.leftovers.push(path),
                Some("json") => match read_record(&path) {
                    Ok(record) => scan.records.extend(record),
                    Err(error) => scan.damaged.push((path, error)),
                },
                _ => {}
            }
        }
        Ok(scan)
    }

    /// Deletes a file that [`ImageStore::scan`] has called damaged.
    pub fn remove_damaged(&self, path: &Path) -> Result<()> {
        let _lock = self.lock()?;
        match read_record(path) {
            Ok(_) => Ok(()), // replaced by a good one since
            Err(_) => Ok(atomic::remove_file(path)?),
        }
    }

    /// Where a record is.
    pub fn path(&self, record: &ImageRecord) -> PathBuf {
        self.root().join(record.file_name())
    }

    /// Notes that an image is used now, as the time of its record. Nothing fails when this cannot be noted: the image
    /// only looks older than it is.
    pub fn touch(&self, record: &ImageRecord) {
        let file = File::options().append(true).open(self.path(record));
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// When an image was used last under this name: pulled, built, tagged, or made a container of.
    pub fn last_used(&self, record: &ImageRecord) -> Result<SystemTime> {
        let path = self.path(record);
        Ok(fs::metadata(&path).and_then(|metadata| metadata.modified()).during("examine", &path)?)
    }
}
