//! What becomes of a blob that others borrow from when it is deleted: as much as they borrow stays.
//!
//! Invariant: bytes that a composed blob borrows are never given back, and nobody gives any back while another writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use carrack_oci::Digest;
use carrack_sys::{IoContext, atomic, sparse};

use crate::parts::PAGE_BYTES;
use crate::{ContentStore, Result};

/// By lender, the ranges that others borrow from it: where each begins and ends.
pub type Lent = BTreeMap<Digest, BTreeSet<(u64, u64)>>;

impl ContentStore {
    /// The files and folders of the blobs that a blob borrows from.
    pub fn lender_paths(&self, digest: &Digest) -> Vec<PathBuf> {
        // Damage is for a check to tell.
        let parts = self.parts(digest).ok().flatten().unwrap_or_default();
        let all = parts.lenders().iter().flat_map(|lender| {
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
            for part in parts.parts() {
                let lender = &parts.lenders()[part.lender].digest;
                let range = (part.lender_offset, part.lender_offset + part.size_bytes);
                lent.entry(lender.clone()).or_default().insert(range);
            }
        }
        Ok(lent)
    }

    /// Whether any blob borrows from this one.
    pub fn is_lender(&self, digest: &Digest) -> Result<bool> {
        for other in self.names_in::<Vec<_>>("composed")? {
            let parts = atomic::read(&self.parts_path(&other))?.unwrap_or_default();
            // Damaged parts count too, and digests stand among lenders only.
            if String::from_utf8_lossy(&parts).contains(digest.hex()) {
                return Ok(true);
            }
        }
        Ok(false)
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
                Some(_) if is_named || self.size(&digest)?.is_some() => atomic::remove_file(&path)?,
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

    pub(crate) fn lent_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("lent").join(format!("{}-{}", digest.algorithm(), digest.hex()))
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
    use crate::Error;
    use crate::parts::Parts;
    use crate::parts::tests::{MIB, add, add_composed, allocated, bytes, read, store};

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
    fn a_lender_that_was_lost_borrows_nothing_when_it_comes_again() {
        let (_folder, store) = store();
        let shared = bytes(1, MIB);
        let lender = add(&store, &[b"lender", shared.as_slice()].concat());
        let composed = add_composed(&store, &lender, 6, [b"first", b""]);
        let other = add(&store, &[b"other", shared.as_slice()].concat());
        store.delete(&lender).unwrap(); // and nobody knew that it lends
        assert_eq!(add_composed(&store, &other, 5, [b"lender", b""]), lender);
        assert!(read(&store, &composed)[5..] == shared);
        assert!(store.is_whole(&lender));
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

        fs::remove_file(store.parts_path(&composed)).unwrap();
        assert_eq!(store.size(&composed).unwrap(), None);
        assert!(matches!(store.open_blob(&composed), Err(Error::NotFound { .. })));
        assert_eq!(store.ingests().unwrap(), [store.composed_path(&composed)]);
        assert_eq!(add_composed(&store, &lender, 0, [b"first", b""]), composed, "it makes room");
        assert_eq!(store.verify(&composed).unwrap(), MIB as u64 + 5);
        store.delete_composed(&composed).unwrap();
        store.clear_ingests().unwrap();
        assert_eq!(store.list().unwrap(), [(lender, MIB as u64)]);
    }
}
