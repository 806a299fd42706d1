//! Blobs that borrow: a layer's tar without the files that the tar of another layer has too.
//!
//! ```text
//! composed/<alg>-<hex>/
//!   data        the blob, with holes for whole pages that are borrowed
//!   parts.json  what is borrowed, and from which blobs
//! lent/<alg>-<hex>    a blob that was deleted while others borrowed from it; only what they borrow is still there
//! ```
//!
//! Invariant: what is borrowed lies in the lender itself, so a read takes one step; a lender stays as long as one that
//! borrows from it (`lending.rs`). Where a blob is both whole and composed, which two writers at once can bring about, both are right.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use carrack_oci::Digest;
use carrack_sys::{IoContext, atomic, tree};
use serde::{Deserialize, Serialize};

use crate::{ContentStore, Error, Result};

/// What is borrowed is left out in pages of this size.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// What a blob borrows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    lenders: Vec<Lender>,
    /// In the order of their places; none overlaps the next.
    parts: Vec<Part>,
}

/// A blob that others borrow from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lender {
    /// The blob.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
}

/// A part of a blob that lies in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64, usize, u64)", into = "(u64, u64, usize, u64)")]
pub struct Part {
    /// Where it is in the blob.
    pub offset: u64,
    /// How long it is.
    pub size_bytes: u64,
    /// The place of the lender in [`Parts::lenders`].
    pub lender: usize,
    /// Where it is in the lender.
    pub lender_offset: u64,
}

impl From<(u64, u64, usize, u64)> for Part {
    fn from((offset, size_bytes, lender, lender_offset): (u64, u64, usize, u64)) -> Self {
        Self { offset, size_bytes, lender, lender_offset }
    }
}

impl From<Part> for (u64, u64, usize, u64) {
    fn from(part: Part) -> Self {
        (part.offset, part.size_bytes, part.lender, part.lender_offset)
    }
}

impl Part {
    fn end(&self) -> u64 {
        self.offset + self.size_bytes
    }
}

impl Parts {
    /// Notes that the blob's bytes at `place` are those of the lender at `lender_offset`; parts come in order.
    pub fn push(&mut self, place: Range<u64>, lender: Lender, lender_offset: u64) {
        let known = self.lenders.iter().position(|known| known.digest == lender.digest);
        let number = known.unwrap_or(self.lenders.len());
        if known.is_none() {
            self.lenders.push(lender);
        }
        let size_bytes = place.end - place.start;
        self.parts.push(Part { offset: place.start, size_bytes, lender: number, lender_offset });
    }

    /// The blobs that it borrows from.
    pub fn lenders(&self) -> &[Lender] {
        &self.lenders
    }

    /// What it borrows.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether nothing is borrowed.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The part that has the byte at `offset`, or the first one after it.
    fn at_or_after(&self, offset: u64) -> Option<&Part> {
        self.parts.get(self.parts.partition_point(|part| part.end() <= offset))
    }

    /// Whether all places exist, in a blob of `size_bytes`.
    fn is_sound(&self, size_bytes: u64) -> bool {
        let mut end = 0;
        self.parts.iter().all(|part| {
            let is_after = part.offset >= end;
            let own = part.offset.checked_add(part.size_bytes).filter(|end| *end <= size_bytes);
            end = own.unwrap_or(u64::MAX);
            let lent = part.lender_offset.checked_add(part.size_bytes);
            let lender = self.lenders.get(part.lender);
            is_after
                && own.is_some()
                && lender.is_some_and(|lender| lent.is_some_and(|end| end <= lender.size_bytes))
        })
    }
}

/// An open blob, whether it is whole or composed.
#[derive(Debug)]
pub struct Blob {
    digest: Digest,
    data: File,
    size_bytes: u64,
    parts: Parts,
    /// In the order of `parts.lenders`.
    lenders: Vec<File>,
    position: u64,
}

impl Blob {
    /// Its length.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Whether all is in one file.
    pub fn is_whole(&self) -> bool {
        self.parts.is_empty()
    }

    /// The file that has the byte at `offset`, and where in it, with all that follows there; nothing at the end.
    fn at(&self, offset: u64) -> (&File, Range<u64>) {
        match self.parts.at_or_after(offset) {
            Some(part) if part.offset <= offset => {
                let start = part.lender_offset + (offset - part.offset);
                (&self.lenders[part.lender], start..part.lender_offset + part.size_bytes)
            }
            next => {
                let end = next.map_or(self.size_bytes, |part| part.offset);
                (&self.data, offset..end.max(offset))
            }
        }
    }

    /// The files that have its bytes, in their order, and where in them.
    pub fn segments(&self) -> impl Iterator<Item = (&File, Range<u64>)> {
        let mut offset = 0;
        std::iter::from_fn(move || {
            let (file, range) = self.at(offset);
            offset += range.end - range.start;
            (!range.is_empty()).then_some((file, range))
        })
    }

    /// Reads at a place; fewer bytes than asked for where it ends, or what is borrowed begins or ends.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (file, range) = self.at(offset);
        let count = buffer.len().min(usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
        file.read_at(&mut buffer[..count], range.start)
    }

    /// Reads as many bytes at a place as the buffer has.
    pub fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buffer = &mut buffer[count..];
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The blob that has the bytes of this range itself, and where; `None` where several have them.
    pub fn owner(&self, range: Range<u64>) -> Option<(Lender, u64)> {
        match self.parts.at_or_after(range.start).filter(|part| part.offset < range.end) {
            None if range.end <= self.size_bytes => {
                let own = Lender { digest: self.digest.clone(), size_bytes: self.size_bytes };
                Some((own, range.start))
            }
            Some(part) if part.offset <= range.start && range.end <= part.end() => {
                let offset = part.lender_offset + (range.start - part.offset);
                Some((self.parts.lenders[part.lender].clone(), offset))
            }
            _ => None,
        }
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Blob {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(distance) => self.size_bytes.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl ContentStore {
    /// Opens a blob for reading.
    pub fn open_blob(&self, digest: &Digest) -> Result<Blob> {
        let (parts, path) = match self.parts(digest)? {
            Some(parts) if !self.blob_path(digest).exists() => {
                (parts, self.composed_path(digest).join("data"))
            }
            _ => (Parts::default(), self.blob_path(digest)),
        };
        let data = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound { digest: digest.clone() });
            }
            result => result.during("open", &path)?,
        };
        let size_bytes = data.metadata().during("look up", &path)?.len();
        let mut lenders = Vec::with_capacity(parts.lenders.len());
        for lender in &parts.lenders {
            let path = self.own_bytes(&lender.digest);
            lenders.push(File::open(&path).during("open what a layer shares with another", &path)?);
        }
        Ok(Blob { digest: digest.clone(), data, size_bytes, parts, lenders, position: 0 })
    }

    /// What a blob borrows; `None` where it is not composed.
    pub fn parts(&self, digest: &Digest) -> Result<Option<Parts>> {
        let Some(bytes) = atomic::read(&self.parts_path(digest))? else { return Ok(None) };
        let data = self.composed_path(digest).join("data");
        let size_bytes = fs::metadata(&data).during("look up", &data)?.len();
        let parts: Option<Parts> = serde_json::from_slice(&bytes).ok();
        let sound = parts.filter(|parts| parts.is_sound(size_bytes));
        sound.map(Some).ok_or_else(|| Error::Parts { digest: digest.clone() })
    }

    /// A digest of what a blob borrows; `None` where it is not composed.
    pub fn parts_digest(&self, digest: &Digest) -> Result<Option<Digest>> {
        let bytes = atomic::read(&self.parts_path(digest))?;
        Ok(bytes.map(|bytes| Digest::of(&bytes)))
    }

    /// The size of a blob that is composed.
    pub(crate) fn composed_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let data = self.composed_path(digest).join("data");
        match self.parts_path(digest).exists() {
            true => Ok(Some(fs::metadata(&data).during("look up", &data)?.len())),
            false => Ok(None),
        }
    }

    /// The file with the bytes that a blob does not borrow.
    pub fn own_bytes(&self, digest: &Digest) -> PathBuf {
        let composed = self.composed_path(digest).join("data");
        let candidates = [self.blob_path(digest), composed, self.lent_path(digest)];
        candidates.iter().find(|path| path.exists()).unwrap_or(&candidates[0]).clone()
    }

    /// Whether all bytes of a blob are in one file.
    pub fn is_whole(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// Lets a composed blob borrow nothing any more. Whoever reads it as it was reads on.
    pub fn make_whole(&self, digest: &Digest) -> Result<()> {
        if self.is_whole(digest) {
            return Ok(());
        }
        let mut writer = self.bulk_writer()?;
        let mut blob = self.open_blob(digest)?;
        io::copy(&mut blob, &mut writer).during("copy", self.composed_path(digest))?;
        writer.name_whole(digest)?;
        self.sync_names()
    }

    /// The files and folders of a blob; those that it borrows from are others'.
    pub fn paths(&self, digest: &Digest) -> Vec<PathBuf> {
        let mut paths = vec![self.blob_path(digest), self.composed_path(digest)];
        paths.retain(|path| path.exists());
        paths
    }

    /// The digests that the names of a folder are of; none where there is no such folder.
    pub(crate) fn names_in<T: FromIterator<Digest>>(&self, folder: &str) -> Result<T> {
        let path = self.root().join(folder);
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(std::iter::empty().collect()),
            entries => entries.during("list", &path)?,
        };
        let names = entries.map(|entry| Ok(entry.during("list", &path)?.file_name()));
        let names = names.collect::<Result<Vec<_>>>()?;
        let digest = |name: &std::ffi::OsString| name.to_str()?.replacen('-', ":", 1).parse().ok();
        Ok(names.iter().filter_map(digest).collect())
    }

    pub(crate) fn composed_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("composed").join(format!("{}-{}", digest.algorithm(), digest.hex()))
    }

    /// What a composed blob borrows is in this file.
    pub(crate) fn parts_path(&self, digest: &Digest) -> PathBuf {
        self.composed_path(digest).join("parts.json")
    }

    /// Names a synced file as the composed blob `digest`; durable after [`ContentStore::sync_names`].
    pub(crate) fn name_composed(&self, file: &Path, digest: &Digest, parts: &Parts) -> Result<()> {
        for folder in ["composed", "lent"].map(|name| self.root().join(name)) {
            if !folder.is_dir() {
                atomic::create_private_dir(&folder)?;
            }
        }
        let staged = file.with_extension("composed");
        let named = self.fill_composed(file, &staged, parts).and_then(|()| {
            let path = self.composed_path(digest);
            if path.exists() && self.parts(digest)?.is_none() {
                tree::remove_tree(&path)?; // what a deletion that was cut short has left
            }
            match fs::rename(&staged, &path) {
                // Somebody was first; what is there has the same bytes.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    Ok(tree::remove_tree(&staged)?)
                }
                result => Ok(result.during("rename to", &path)?),
            }
        });
        if named.is_err() {
            let _ = tree::remove_tree(&staged);
        }
        named
    }

    fn fill_composed(&self, file: &Path, folder: &Path, parts: &Parts) -> Result<()> {
        atomic::create_private_dir(folder)?;
        fs::rename(file, folder.join("data")).during("rename", file)?;
        let bytes = serde_json::to_vec(parts).expect("a list of numbers and digests");
        Ok(atomic::write(&folder.join("parts.json"), &bytes, 0o600, atomic::Durability::Durable)?)
    }

    /// Folders of composed blobs whose deletion was cut short.
    pub(crate) fn half_deleted(&self) -> Result<Vec<PathBuf>> {
        let all = self.names_in::<Vec<_>>("composed")?.into_iter();
        let half = all.filter(|digest| !self.parts_path(digest).exists());
        Ok(half.map(|digest| self.composed_path(&digest)).collect())
    }

    pub(crate) fn delete_composed(&self, digest: &Digest) -> Result<()> {
        // Without its parts it is nothing, whatever a crash leaves of the rest.
        atomic::remove_file(&self.parts_path(digest))?;
        Ok(tree::remove_tree(&self.composed_path(digest))?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    pub(crate) const MIB: usize = 1 << 20;

    /// Bytes that no page of has twice.
    pub(crate) fn bytes(seed: u32, length: usize) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    pub(crate) fn store() -> (tempfile::TempDir, ContentStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = ContentStore::open(folder.path()).unwrap();
        (folder, store)
    }

    pub(crate) fn add(store: &ContentStore, bytes: &[u8]) -> Digest {
        let mut writer = store.bulk_writer().unwrap();
        writer.write_all(bytes).unwrap();
        writer.commit().unwrap().0
    }

    /// A blob of `before`, all of `lender` from `offset` on, and `after`.
    pub(crate) fn add_composed(
        store: &ContentStore,
        lender: &Digest,
        offset: u64,
        [before, after]: [&[u8]; 2],
    ) -> Digest {
        let mut writer = store.bulk_writer().unwrap();
        writer.write_all(before).unwrap();
        let mut shared = Vec::new();
        let mut blob = store.open_blob(lender).unwrap();
        blob.seek(SeekFrom::Start(offset)).unwrap();
        blob.read_to_end(&mut shared).unwrap();
        writer.leave_out(&shared).unwrap();
        writer.write_all(after).unwrap();
        let mut parts = Parts::default();
        let (start, end) = (before.len() as u64, (before.len() + shared.len()) as u64);
        let (owner, owner_offset) = blob.owner(offset..offset + shared.len() as u64).unwrap();
        parts.push(start..end, owner, owner_offset);
        let (digest, size_bytes) = writer.commit_composed(&parts).unwrap();
        assert_eq!(size_bytes, end + after.len() as u64);
        digest
    }

    pub(crate) fn read(store: &ContentStore, digest: &Digest) -> Vec<u8> {
        let mut bytes = Vec::new();
        store.open_blob(digest).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    pub(crate) fn allocated(path: &Path) -> u64 {
        fs::metadata(path).unwrap().blocks() * 512
    }

    #[test]
    fn what_is_shared_is_there_once_and_read_from_both() {
        let (_folder, store) = store();
        let old = bytes(1, 20 * MIB + 77);
        let lender = add(&store, &old);
        for (before, after) in [(512, 0), (3 * MIB + 512, 1024), (18 * MIB, 5 * MIB + 7), (0, 1)] {
            let (before, after) = (bytes(2, before), bytes(3, after));
            let composed = add_composed(&store, &lender, 1024, [&before, &after]);
            let expected = [before.as_slice(), &old[1024..], &after].concat();
            assert!(read(&store, &composed) == expected);
            assert_eq!(composed, Digest::of(&expected));
            assert_eq!(store.verify(&composed).unwrap(), expected.len() as u64);
            assert_eq!(store.size(&composed).unwrap(), Some(expected.len() as u64));
            let mut copied = Vec::new();
            for (mut file, range) in store.open_blob(&composed).unwrap().segments() {
                file.seek(SeekFrom::Start(range.start)).unwrap();
                file.take(range.end - range.start).read_to_end(&mut copied).unwrap();
            }
            assert!(copied == expected);
            let own = (before.len() + after.len()) as u64;
            assert!(allocated(&store.own_bytes(&composed)) <= own + 16 * PAGE_BYTES);
            store.make_whole(&composed).unwrap();
            assert!(fs::read(store.blob_path(&composed)).unwrap() == expected);
            store.delete(&composed).unwrap();
            assert_eq!(store.size(&composed).unwrap(), None);
        }
        assert_eq!(store.list().unwrap().len(), 1);
    }

    #[test]
    fn what_is_another_file_after_all_is_written_after_all() {
        let (_folder, store) = store();
        let old = bytes(1, 40 * MIB);
        for (start, end) in [(0, 1), (0, 8192), (512, 30 * MIB), (17 * MIB + 512, 33 * MIB), (MIB, MIB)] {
            let mut writer = store.bulk_writer().unwrap();
            writer.write_all(&old[..start]).unwrap();
            writer.leave_out(&old[start..end]).unwrap();
            let read = |buffer: &mut [u8], offset: u64| {
                buffer.copy_from_slice(&old[offset as usize..offset as usize + buffer.len()]);
                Ok(())
            };
            writer.write_after_all(start as u64..end as u64, &read).unwrap();
            writer.write_all(&old[end..]).unwrap();
            let digest = writer.commit().unwrap().0;
            assert!(fs::read(store.blob_path(&digest)).unwrap() == old, "{start} to {end}");
            store.delete(&digest).unwrap();
        }
    }

    #[test]
    fn places_that_cannot_be_are_damage() {
        let (_folder, store) = store();
        let lender = add(&store, &bytes(1, MIB));
        let composed = add_composed(&store, &lender, 0, [b"first", b""]);
        let file = store.parts_path(&composed);
        let text = fs::read_to_string(&file).unwrap();
        let good = format!("[[5,{MIB},0,0]]");
        assert!(text.contains(&good), "{text}");
        for wrong in
            ["[[5,1048577,0,0]]", "[[5,1048576,1,0]]", "[[5,1048576,0,1]]", "[[5,9,0,0],[13,9,0,0]]", "[[5]]"]
        {
            fs::write(&file, text.replace(&good, wrong)).unwrap();
            assert!(matches!(store.open_blob(&composed), Err(Error::Parts { .. })), "{wrong}");
        }
        fs::write(&file, &text).unwrap();
        store.delete(&lender).unwrap();
        assert!(store.open_blob(&composed).unwrap_err().to_string().contains(lender.hex()));
    }
}
