//! Reading the small files of a container in three system calls, as `ps` reads hundreds of them.

use std::mem::MaybeUninit;
use std::path::Path;

use carrack_sys::IoContext;
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read as read_some};

use crate::Result;

/// Most records and states are smaller. They are read into the stack: to allocate and free as much for each of
/// hundreds of files takes longer than to copy the few bytes that they have.
const USUAL_BYTES: usize = 8 * 1024;

/// Gives the whole content of a file to `take`; for files that are replaced but never changed, or that the kernel makes
/// up. `None` when it does not exist.
pub(crate) fn read_with<T>(path: &Path, take: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
    let file = match open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Ok(Err(error).during("open", path)?),
    };
    let mut usual = [MaybeUninit::uninit(); USUAL_BYTES];
    let mut content = loop {
        match read_some(&file, &mut usual[..]) {
            // A read that leaves room has met the end.
            Ok((bytes, rest)) if !rest.is_empty() => return Ok(Some(take(bytes))),
            Ok((bytes, _)) => break bytes.to_vec(),
            Err(Errno::INTR) => {}
            Err(error) => return Ok(Err(error).during("read", path)?),
        }
    };
    content.reserve(USUAL_BYTES);
    loop {
        match read_some(&file, spare_capacity(&mut content)) {
            Ok(_) if content.len() < content.capacity() => return Ok(Some(take(&content))),
            Ok(_) => content.reserve(content.len()),
            Err(Errno::INTR) => {}
            Err(error) => return Ok(Err(error).during("read", path)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_files_of_every_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let read = |path: &Path| read_with(path, <[u8]>::to_vec);
        assert_eq!(read(&path).unwrap(), None);
        for size in [0, 1, USUAL_BYTES - 1, USUAL_BYTES, USUAL_BYTES + 1, 10 * USUAL_BYTES] {
            let bytes: Vec<u8> = (0..size).map(|number| u8::try_from(number % 251).unwrap()).collect();
            std::fs::write(&path, &bytes).unwrap();
            assert!(read(&path).unwrap().unwrap() == bytes, "{size} bytes");
        }
        assert!(read(folder.path()).is_err());
    }
}
