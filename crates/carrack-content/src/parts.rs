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
//! borrows from it. Where a blob is both whole and composed, which two writers at once can bring about, both are right.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use carrack_oci::Digest;
use carrack_sys::{IoContext, atomic, sparse, tree};
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

/// By lender, the ranges that others borrow from it: where each begins and ends.
pub type Lent = BTreeMap<Digest, BTreeSet<(u64, u64)>>;

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
    /// Its file, if all is in one.
    pub fn whole(&self) -> Option<&File> {
        self.parts.is_empty().then_some(&self.data)
    }

    /// Reads at a place; fewer bytes than asked for where it ends, or what is borrowed begins or ends.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bounded =
            |end: u64| buffer.len().min(usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX));
        match self.parts.at_or_after(offset) {
            None => self.data.read_at(buffer, offset),
            Some(part) if offset < part.offset => {
                let count = bounded(part.offset);
                self.data.read_at(&mut buffer[..count], offset)
            }
            Some(part) => {
                let count = bounded(part.end());
                let file = &self.lenders[part.lender];
                file.read_at(&mut buffer[..count], part.lender_offset + (offset - part.offset))
            }
        }
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
        let folder = self.composed_path(digest);
        let Some(bytes) = atomic::read(&folder.join("parts.json"))? else { return Ok(None) };
        let data = folder.join("data");
        let size_bytes = fs::metadata(&data).during("look up", &data)?.len();
        let parts: Option<Parts> = serde_json::from_slice(&bytes).ok();
        let sound = parts.filter(|parts| parts.is_sound(size_bytes));
        sound.map(Some).ok_or_else(|| Error::Parts { digest: digest.clone() })
    }

    /// The size of a blob that is composed.
    pub(crate) fn composed_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let folder = self.composed_path(digest);
        let (parts, data) = (folder.join("parts.json"), folder.join("data"));
        match parts.exists() {
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

    /// The files and folders of the blobs that a blob borrows from.
    pub fn lender_paths(&self, digest: &Digest) -> Vec<PathBuf> {
        // Damage is for a check to tell.
        let parts = self.parts(digest).ok().flatten().unwrap_or_default();
        let all = parts.lenders.iter().flat_map(|lender| {
            let mut paths = self.paths(&lender.digest);
            paths.extend(Some(self.lent_path(&lender.digest)).filter(|path| path.exists()));
            paths
        });
        all.collect()
    }

    /// The ranges of other blobs that blobs borrow, by lender.
    pub fn borrowed_by(&self, blobs: &BTreeSet<Digest>) -> Result<Lent> {
        let mut lent = Lent::new();
        for digest in self.names_in::<Vec<_>>("composed")?.iter().filter(|digest| blobs.contains(digest)) {
            let Some(parts) = self.parts(digest)? else { continue };
            for part in &parts.parts {
                let lender = &parts.lenders[part.lender].digest;
                let range = (part.lender_offset, part.lender_offset + part.size_bytes);
                lent.entry(lender.clone()).or_default().insert(range);
            }
        }
        Ok(lent)
    }

    /// Whether any blob borrows from this one; of those that can be read.
    pub fn is_lender(&self, digest: &Digest) -> Result<bool> {
        let all = self.names_in::<Vec<_>>("composed")?;
        let parts = all.iter().filter_map(|other| self.parts(other).ok().flatten());
        Ok(parts.into_iter().any(|parts| parts.lenders.iter().any(|lender| lender.digest == *digest)))
    }

    /// Deletes a blob of which others borrow: what they do not is given back by [`ContentStore::keep_lent`].
    pub fn retire(&self, digest: &Digest) -> Result<()> {
        let path = self.lent_path(digest);
        // Another name first, so that a crash never leaves it without one.
        match fs::hard_link(self.own_bytes(digest), &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // Without a place for the name, the whole blob stays until the next collection.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
            result => result.during("link", &path)?,
        }
        atomic::sync_parent(&path)?;
        self.delete(digest)
    }

    /// Gives back what nobody borrows any more of blobs that were deleted; needs that nobody writes. What is read now is
    /// left for the next time.
    pub fn keep_lent(&self, lent: &Lent) -> Result<()> {
        for (digest, path) in self.lent()? {
            let file = File::options().read(true).write(true).open(&path).during("open", &path)?;
            let is_named = file.metadata().during("look up", &path)?.nlink() > 1;
            match lent.get(&digest) {
                // It came again, or was not deleted after all.
                Some(_) if is_named || self.blob_path(&digest).exists() => atomic::remove_file(&path)?,
                Some(ranges) => trim(&file, ranges).during("give back parts of", &path)?,
                None => atomic::remove_file(&path)?,
            }
        }
        Ok(())
    }

    /// What is kept of deleted blobs for the sake of others: the blobs, and their files.
    pub fn lent(&self) -> Result<Vec<(Digest, PathBuf)>> {
        let all = self.names_in::<Vec<_>>("lent")?.into_iter();
        Ok(all.map(|digest| (digest.clone(), self.lent_path(&digest))).collect())
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

    fn lent_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("lent").join(format!("{}-{}", digest.algorithm(), digest.hex()))
    }

    /// Whether only what others borrow is left of this blob.
    pub(crate) fn is_lent(&self, digest: &Digest) -> bool {
        self.lent_path(digest).exists()
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
        let all = self.names_in::<Vec<_>>("composed")?.into_iter().map(|digest| self.composed_path(&digest));
        Ok(all.filter(|folder| !folder.join("parts.json").exists()).collect())
    }

    pub(crate) fn delete_composed(&self, digest: &Digest) -> Result<()> {
        let path = self.composed_path(digest);
        // Without its parts it is nothing, whatever a crash leaves of the rest.
        atomic::remove_file(&path.join("parts.json"))?;
        Ok(tree::remove_tree(&path)?)
    }
}

/// Makes holes of whatever lies between `ranges`, unless somebody has the file open.
fn trim(file: &File, ranges: &BTreeSet<(u64, u64)>) -> io::Result<()> {
    let metadata = file.metadata()?;
    let mut end = 0;
    let mut gaps = Vec::new();
    for (start, stop) in
        ranges.iter().copied().chain([(metadata.len().next_multiple_of(PAGE_BYTES), u64::MAX)])
    {
        let gap = end..start / PAGE_BYTES * PAGE_BYTES;
        if gap.start < gap.end {
            gaps.push(gap);
        }
        end = end.max(stop.checked_next_multiple_of(PAGE_BYTES).unwrap_or(u64::MAX));
    }
    let unneeded: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
    let needed = metadata.len().saturating_sub(unneeded);
    if metadata.blocks() * 512 <= needed + PAGE_BYTES || !sparse::is_mine_alone(file)? {
        return Ok(());
    }
    gaps.into_iter().try_for_each(|gap| sparse::punch(file, gap))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const MIB: usize = 1 << 20;

    /// Bytes that no page of has twice.
    fn bytes(seed: u32, length: usize) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    fn store() -> (tempfile::TempDir, ContentStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = ContentStore::open(folder.path()).unwrap();
        (folder, store)
    }

    fn add(store: &ContentStore, bytes: &[u8]) -> Digest {
        let mut writer = store.bulk_writer().unwrap();
        writer.write_all(bytes).unwrap();
        writer.commit().unwrap().0
    }

    /// A blob of `before`, all of `lender` from `offset` on, and `after`.
    fn add_composed(
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

    fn read(store: &ContentStore, digest: &Digest) -> Vec<u8> {
        let mut bytes = Vec::new();
        store.open_blob(digest).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn allocated(path: &Path) -> u64 {
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
    fn of_a_deleted_lender_only_what_is_lent_stays_until_it_comes_again() {
        let (_folder, store) = store();
        let old = bytes(1, 8 * MIB);
        let lender = add(&store, &old);
        let composed = add_composed(&store, &lender, 6 * MIB as u64, [&bytes(2, 512), b""]);
        let expected = read(&store, &composed);
        let second = add_composed(&store, &composed, 512, [b"second", b""]);
        assert_eq!(store.parts(&second).unwrap().unwrap().lenders()[0].digest, lender, "one step");
        let lent = store.borrowed_by(&BTreeSet::from([composed.clone(), second.clone()])).unwrap();
        store.retire(&lender).unwrap();
        assert_eq!(store.size(&lender).unwrap(), None);
        let reader = File::open(store.own_bytes(&lender)).unwrap();
        store.keep_lent(&lent).unwrap();
        assert!(allocated(&store.own_bytes(&lender)) >= 8 * MIB as u64, "somebody reads it");
        drop(reader);
        store.keep_lent(&lent).unwrap();
        assert!(allocated(&store.own_bytes(&lender)) <= 2 * MIB as u64 + 8 * PAGE_BYTES);
        assert!(read(&store, &composed) == expected);
        assert_eq!(store.verify(&second).unwrap(), 2 * MIB as u64 + 6);

        // It comes again, and is found in those that borrow from it: it must not borrow from itself.
        let mut writer = store.bulk_writer().unwrap();
        writer.write_all(&old[..6 * MIB]).unwrap();
        writer.leave_out(&old[6 * MIB..]).unwrap();
        let blob = store.open_blob(&composed).unwrap();
        let (owner, offset) = blob.owner(512..512 + 2 * MIB as u64).unwrap();
        let mut parts = Parts::default();
        parts.push(6 * MIB as u64..8 * MIB as u64, owner, offset);
        assert_eq!(writer.commit_composed(&parts).unwrap().0, lender);
        assert!(fs::read(store.blob_path(&lender)).unwrap() == old, "it is whole");
        store.keep_lent(&lent).unwrap();
        assert!(store.lent().unwrap().is_empty());
        assert!(read(&store, &composed) == expected);

        store.retire(&lender).unwrap();
        store.delete(&composed).unwrap();
        store.delete(&second).unwrap();
        store.keep_lent(&Lent::new()).unwrap();
        assert!(store.lent().unwrap().is_empty() && store.list().unwrap().is_empty());
    }

    #[test]
    fn a_retirement_or_deletion_that_was_cut_short_is_repeated() {
        let (folder, store) = store();
        let lender = add(&store, &bytes(1, MIB));
        let composed = add_composed(&store, &lender, 0, [b"first", b""]);
        let lent = store.borrowed_by(&BTreeSet::from([composed.clone()])).unwrap();
        fs::hard_link(
            store.blob_path(&lender),
            folder.path().join("lent").join(format!("sha256-{}", lender.hex())),
        )
        .unwrap();
        store.keep_lent(&lent).unwrap();
        assert!(store.lent().unwrap().is_empty(), "it was not deleted");
        assert_eq!(store.verify(&lender).unwrap(), MIB as u64);

        fs::remove_file(store.composed_path(&composed).join("parts.json")).unwrap();
        assert_eq!(store.size(&composed).unwrap(), None);
        assert!(matches!(store.open_blob(&composed), Err(Error::NotFound { .. })));
        assert_eq!(store.ingests().unwrap(), [store.composed_path(&composed)]);
        assert_eq!(add_composed(&store, &lender, 0, [b"first", b""]), composed, "it makes room");
        assert_eq!(store.verify(&composed).unwrap(), MIB as u64 + 5);
        store.delete_composed(&composed).unwrap();
        store.clear_ingests().unwrap();
        assert_eq!(store.list().unwrap(), [(lender, MIB as u64)]);
    }

    #[test]
    fn places_that_cannot_be_are_damage() {
        let (_folder, store) = store();
        let lender = add(&store, &bytes(1, MIB));
        let composed = add_composed(&store, &lender, 0, [b"first", b""]);
        let file = store.composed_path(&composed).join("parts.json");
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
