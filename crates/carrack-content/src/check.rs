//! Looking for damage: blobs that are not what their name says, and files that are no blobs.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use carrack_oci::Digest;
use carrack_sys::IoContext;

use crate::{ContentStore, Error, Result};

const BUFFER_BYTES: usize = 1 << 18;

impl ContentStore {
    /// Reads a blob whole; [`Error::DigestMismatch`] when it is not what its name says. Tells its length.
    pub fn verify(&self, digest: &Digest) -> Result<u64> {
        let mut file = self.open_blob(digest)?;
        let mut hasher = digest.hasher();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut size_bytes = 0;
        loop {
            let count = file.read(&mut buffer).during("read", self.blob_path(digest))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            size_bytes += count as u64;
        }
        let got = hasher.finish();
        match got == *digest {
            true => Ok(size_bytes),
            false => Err(Error::DigestMismatch { expected: digest.clone(), got, size_bytes }),
        }
    }

    /// Whatever lies among the blobs and has no blob's name, save what writers are at.
    pub fn strays(&self) -> Result<Vec<PathBuf>> {
        let mut strays = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let folder = self.root().join("blobs").join(algorithm);
            for entry in fs::read_dir(&folder).during("list", &folder)? {
                let path = entry.during("list", &folder)?.path();
                if !is_blob_name(algorithm, &path) && path.extension().is_none_or(|kind| kind != "tmp") {
                    strays.push(path);
                }
            }
        }
        Ok(strays)
    }
}

fn is_blob_name(algorithm: &str, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    format!("{algorithm}:{name}").parse::<Digest>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn finds_other_bytes_and_other_names() {
        let folder = tempfile::tempdir().unwrap();
        let store = ContentStore::open(folder.path()).unwrap();
        let digest = store.put(b"hello").unwrap();
        assert_eq!(store.verify(&digest).unwrap(), 5);
        assert!(store.strays().unwrap().is_empty());
        fs::write(store.blob_path(&digest), b"jello").unwrap();
        assert!(matches!(store.verify(&digest), Err(Error::DigestMismatch { size_bytes: 5, .. })));
        let stray = store.blob_path(&digest).with_file_name("notes.txt");
        File::create(&stray).unwrap();
        File::create(store.blob_path(&digest).with_file_name(".a.1.0.tmp")).unwrap();
        assert_eq!(store.strays().unwrap(), [stray]);
    }
}
