//! Layers: a tar in the content store, and its index here.
//!
//! Invariant: one large index is written at a time in a process, because its names are held in memory while it is; other
//! large layers that come meanwhile are only written down, and indexed from there by whoever is free first: nobody waits.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use carrack_content::{ContentStore, Lender, Parts};
use carrack_erofs::{BLOCK_BYTES, Limits, Reader};
use carrack_layer::{Borrowed, IndexOptions, Indexed, LargeFile, LayerIndex, is_layer_xattr};
use carrack_oci::{DiffId, Digest};
use carrack_sys::atomic;
use carrack_sys::{IoContext, tree};
use serde::{Deserialize, Serialize};

use super::sharing;
use super::written::written_down;
use crate::folders::{Folders, file_name, folder_names, parse_file_name, rename_new};
use crate::record::{Record, RecordedUsage, RootFolder};
use crate::{Error, Result};

/// As much may be indexed beside others: 2 MiB of memory, and most layers.
const BESIDE_OTHERS: Limits = Limits { entries: 1 << 15, name_bytes: 1 << 20 };

/// Held while an index of any size is in memory.
static INDEXING: Mutex<()> = Mutex::new(());

const COPY_BYTES: usize = 256 << 10;

/// What is known of an indexed layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Summary {
    /// The layer hides all that is below it.
    #[serde(default)]
    pub is_opaque: bool,
    /// It cannot be seen right without what is below it: overlayfs alone does not stack it.
    #[serde(default)]
    pub needs_below: bool,
    /// It has hardlinks to files of lower layers, which only a merged image shows as what they are.
    #[serde(default)]
    pub has_links_below: bool,
    /// It removes or hides names of lower layers.
    #[serde(default)]
    pub has_whiteouts: bool,
    /// The length of its files and the number of its inodes.
    pub usage: RecordedUsage,
    /// How the root looks, if the layer says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootFolder>,
}

/// The layers of a store.
#[derive(Debug)]
pub(super) struct Layers {
    folder: PathBuf,
    content: ContentStore,
    /// Layers that this process has written down and not indexed yet.
    pending: Mutex<Vec<DiffId>>,
}

impl Layers {
    pub fn new(root: &Path, content: &ContentStore) -> Self {
        Self { folder: root.join("layers"), content: content.clone(), pending: Mutex::default() }
    }

    /// The folder of a layer.
    pub fn path(&self, layer: &DiffId) -> PathBuf {
        self.folder.join(file_name(&layer.0))
    }

    /// Where the index of a layer is.
    pub fn index(&self, layer: &DiffId) -> PathBuf {
        self.path(layer).join("index")
    }

    /// Where all layers are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn content(&self) -> &ContentStore {
        &self.content
    }

    /// Where the tar of a layer is, or as much of it as it does not borrow; where none of a stack borrows, nothing is
    /// looked for.
    pub fn tar(&self, layer: &DiffId, may_borrow: bool) -> PathBuf {
        match may_borrow {
            true => self.content.own_bytes(&layer.0),
            false => self.content.blob_path(&layer.0),
        }
    }

    /// Whether its index and tar show a layer, without the tars of others.
    pub fn is_whole(&self, layer: &DiffId) -> bool {
        self.content.is_whole(&layer.0)
    }

    /// Where a layer borrows, and from what.
    pub fn parts(&self, layer: &DiffId) -> Result<Parts> {
        Ok(self.content.parts(&layer.0)?.unwrap_or_default())
    }

    /// A record with what its layers borrow now.
    pub fn current(&self, record: Record) -> Result<Record> {
        let mut sharing: Option<Digest> = None;
        for layer in record.layers.iter().rev() {
            if let Some(own) = self.content.parts_digest(&layer.0)? {
                let below = sharing.as_ref().map_or("", Digest::as_str);
                sharing = Some(Digest::of(format!("{below} {own}").as_bytes()));
            }
        }
        if sharing == record.sharing {
            return Ok(record);
        }
        let mut lenders = Vec::new();
        for layer in record.layers.iter().rev() {
            for lender in self.parts(layer)?.lenders() {
                if !lenders.contains(lender) {
                    lenders.push(lender.clone());
                }
            }
        }
        Ok(Record { lenders, sharing, ..record })
    }

    /// Lets a layer borrow nothing any more.
    pub fn make_whole(&self, layer: &DiffId) -> Result<()> {
        Ok(self.content.make_whole(&layer.0)?)
    }

    /// Whether tar and index are there.
    pub fn is_complete(&self, layer: &DiffId) -> Result<bool> {
        Ok(self.summary(layer)?.is_some() && self.content.size(&layer.0)?.is_some())
    }

    /// The length of a layer's tar.
    pub fn tar_bytes(&self, layer: &DiffId) -> Result<u64> {
        let size_bytes = self.content.size(&layer.0)?;
        size_bytes.ok_or_else(|| carrack_content::Error::NotFound { digest: layer.0.clone() }.into())
    }

    /// What tar and index take on disk.
    pub fn disk_bytes(&self, layer: &DiffId) -> Result<u64> {
        let mut blocks = 0;
        for path in [self.index(layer), self.tar(layer, true)] {
            blocks += fs::metadata(&path).during("examine", &path)?.blocks();
        }
        Ok(blocks * 512)
    }

    fn summary(&self, layer: &DiffId) -> Result<Option<Summary>> {
        let Some(bytes) = atomic::read(&self.path(layer).join("summary.json"))? else { return Ok(None) };
        let name = || layer.to_string();
        serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Record { name: name(), source })
    }

    /// What is known of a layer whose tar is in the content store; one without an index gets it.
    pub fn ensure(&self, layer: &DiffId, folders: &Folders) -> Result<Summary> {
        if let Some(summary) = self.summary(layer)? {
            return Ok(summary);
        }
        let _one_at_a_time = lock();
        // Whoever had the lock may have been at this one.
        match self.summary(layer)? {
            Some(summary) => Ok(summary),
            None => self.index_stored(layer, folders),
        }
    }

    /// Takes the tar of a layer, and indexes it while it comes, unless it is large and another one is being indexed;
    /// returns its diff ID and length.
    pub fn add(&self, tar: &mut dyn Read, folders: &Folders) -> Result<(DiffId, u64)> {
        let alone = try_lock();
        let staged = folders.stage()?;
        let (indexed, writer, found) = written_down(tar, self.content.bulk_writer()?, self, |tar, files| {
            write_index(&staged.path, files, |out, options| match alone {
                Some(_) => carrack_layer::index(tar, out, options).map(Some),
                None => carrack_layer::index_or_skim(
                    tar,
                    out,
                    &IndexOptions { limits: BESIDE_OTHERS, ..*options },
                ),
            })
        })?;
        let layer = DiffId(writer.digest());
        let (_, size_bytes) = match self.summary(&layer)? {
            None => writer.commit_composed(&found.parts)?,
            // Its tar was lost. Snapshots that stand on it may have been written when it was whole.
            Some(_) => writer.commit_whole(&found.parts)?,
        };
        match indexed {
            Some(indexed) => {
                sharing::write_list(&staged.path, &found.files)?;
                self.name(&staged.path, &layer, &summarize(&staged.path, &indexed)?)?;
            }
            None => self.pending().push(layer.clone()),
        }
        drop(alone);
        self.index_pending(folders);
        Ok((layer, size_bytes))
    }

    /// Indexes what was only written down, as long as nobody else is indexing. What is left when all have come, and what
    /// cannot be indexed, shows where its layer is stacked.
    fn index_pending(&self, folders: &Folders) {
        while let Some(_one_at_a_time) = try_lock() {
            let Some(layer) = self.pending().pop() else { return };
            let indexed = match self.summary(&layer) {
                Ok(None) => self.index_stored(&layer, folders).map(drop),
                found => found.map(drop),
            };
            if let Err(error) = indexed {
                tracing::debug!(%error, %layer, "cannot index a layer");
            }
        }
    }

    fn pending(&self) -> MutexGuard<'_, Vec<DiffId>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the names of all indexes and tars durable.
    pub fn sync_names(&self) -> Result<()> {
        atomic::sync_parent(&self.folder.join("any"))?;
        Ok(self.content.sync_names()?)
    }

    fn index_stored(&self, layer: &DiffId, folders: &Folders) -> Result<Summary> {
        let staged = folders.stage()?;
        let tar = self.content.open_blob(&layer.0)?;
        let files = RefCell::default();
        let indexed =
            write_index(&staged.path, &files, |out, options| carrack_layer::index_file(tar, out, options))?;
        sharing::write_list(&staged.path, &files.take())?;
        let summary = summarize(&staged.path, &indexed)?;
        self.name(&staged.path, layer, &summary)?;
        Ok(summary)
    }

    /// Gives a complete index its name, which is durable after [`Layers::sync_names`].
    fn name(&self, folder: &Path, layer: &DiffId, summary: &Summary) -> Result<()> {
        let bytes = serde_json::to_vec(summary).expect("a summary has string keys only");
        let file = folder.join("summary.json");
        fs::write(&file, &bytes).during("write", &file)?;
        File::open(&file).and_then(|file| file.sync_data()).during("sync", &file)?;
        let path = self.path(layer);
        if !rename_new(folder, &path)? && self.summary(layer)?.is_none() {
            // A loss of power can leave the folder without what was in it.
            tree::remove_tree(&path)?;
            rename_new(folder, &path)?;
        }
        Ok(())
    }

    /// Says so when the tar of a layer is not there, or one that it borrows from.
    pub fn lacks_tar(&self, layer: &DiffId) -> Option<String> {
        self.content
            .open_blob(&layer.0)
            .err()
            .map(|error| format!("the tar of its layer is not there: {error}"))
    }

    /// Indexes a layer once more and compares: its folder, when that has another index.
    pub fn compare(&self, layer: &DiffId, folders: &Folders) -> Result<Option<PathBuf>> {
        if !self.index(layer).exists() {
            return Ok(None); // it is made when it is needed
        }
        let _one_at_a_time = lock();
        let staged = folders.stage()?;
        let tar = self.content.open_blob(&layer.0)?;
        let files = RefCell::default();
        write_index(&staged.path, &files, |out, options| carrack_layer::index_file(tar, out, options))?;
        let is_same = same_content(&staged.path.join("index"), &self.index(layer))?;
        Ok((!is_same).then(|| self.path(layer)))
    }

    /// The folders of layers that none of the snapshots has.
    pub fn unused<'a>(&self, records: impl Iterator<Item = &'a Record>) -> Result<Vec<PathBuf>> {
        let used: HashSet<&DiffId> = records.flat_map(|record| &record.layers).collect();
        let is_used =
            |name: &String| parse_file_name(name).is_some_and(|digest| used.contains(&DiffId(digest)));
        let names = folder_names(&self.folder)?.into_iter();
        Ok(names.filter(|name| !is_used(name)).map(|name| self.folder.join(name)).collect())
    }

    /// Removes the index of a layer.
    pub fn remove(&self, layer: &DiffId, folders: &Folders) -> Result<()> {
        folders.unname(&self.path(layer)).map(drop)
    }

    /// Removes the indexes of layers that none of the snapshots `left` has.
    pub fn retain(&self, left: &[Record], folders: &Folders) -> Result<()> {
        let used: HashSet<&DiffId> = left.iter().flat_map(|record| &record.layers).collect();
        for name in folder_names(&self.folder)? {
            match parse_file_name(&name).map(DiffId) {
                Some(layer) if used.contains(&layer) => {}
                Some(layer) => self.remove(&layer, folders)?,
                None => tree::remove_tree(&self.folder.join(name))?,
            }
        }
        Ok(())
    }
}

fn lock() -> MutexGuard<'static, ()> {
    INDEXING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn try_lock() -> Option<MutexGuard<'static, ()>> {
    match INDEXING.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Whether two files have the same bytes.
pub(super) fn same_content(one: &Path, other: &Path) -> Result<bool> {
    let open = |path: &Path| -> Result<io::BufReader<File>> {
        Ok(io::BufReader::with_capacity(COPY_BYTES, File::open(path).during("open", path)?))
    };
    let (mut left, mut right) = (open(one)?, open(other)?);
    loop {
        let count = {
            let left = left.fill_buf().during("read", one)?;
            let right = right.fill_buf().during("read", other)?;
            let count = left.len().min(right.len());
            if left[..count] != right[..count] || (count == 0 && left.len() != right.len()) {
                return Ok(false);
            }
            count
        };
        if count == 0 {
            return Ok(true);
        }
        left.consume(count);
        right.consume(count);
    }
}

/// Writes an index into a folder.
fn write_index<T>(
    folder: &Path,
    large_files: &RefCell<Vec<LargeFile>>,
    write: impl FnOnce(&mut File, &IndexOptions<'_>) -> carrack_layer::Result<T>,
) -> Result<T> {
    let path = folder.join("index");
    let mut file = File::create_new(&path).during("create", &path)?;
    let options = IndexOptions { large_files: Some(large_files), ..IndexOptions::new(folder) };
    let written = write(&mut file, &options)?;
    file.sync_data().during("sync", &path)?;
    Ok(written)
}

/// What is to be known of the index in a folder; how its root looks is read back.
fn summarize(folder: &Path, indexed: &Indexed) -> Result<Summary> {
    let root = root_of(&folder.join("index"))?;
    let others = indexed.implicit_dirs - u64::from(root.is_none());
    Ok(Summary {
        is_opaque: indexed.is_opaque,
        needs_below: indexed.needs_below || others > 0,
        has_links_below: indexed.needs_below,
        has_whiteouts: indexed.has_whiteouts,
        usage: indexed.usage.into(),
        root,
    })
}

/// How the root of an index looks, if the layer has described it.
fn root_of(index: &Path) -> Result<Option<RootFolder>> {
    let mut reader =
        Reader::open(File::open(index).during("open", index)?).map_err(carrack_layer::Error::from)?;
    let mut bytes = Vec::new();
    reader.inode(reader.root(), &mut bytes).map_err(carrack_layer::Error::from)?;
    let record = carrack_erofs::Record(&bytes);
    let metadata = record.metadata();
    if metadata.marks.is_implicit {
        return Ok(None);
    }
    let is_plain = |(name, value): (Vec<u8>, &[u8])| {
        let name = String::from_utf8(name).ok().filter(|name| is_layer_xattr(OsStr::new(name)));
        name.map(|name| (name, value.to_vec()))
    };
    Ok(Some(RootFolder {
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
        mtime: metadata.mtime,
        xattrs: record.xattrs().filter_map(is_plain).collect(),
    }))
}

/// Merges the stack of the lowest layers first into a file; `false` when they have too many entries together.
pub(super) fn merge(stack: &MergeStack, path: &Path, limits: Limits) -> Result<bool> {
    let _one_at_a_time = lock();
    let mut indexes = Vec::with_capacity(stack.layers.len());
    for (index, parts) in &stack.layers {
        let index = File::open(index).during("open", index)?;
        indexes.push(LayerIndex { index, borrowed: borrowed(parts, &stack.lenders) });
    }
    let lenders: Vec<u64> = stack.lenders.iter().map(|lender| lender.size_bytes).collect();
    let mut file = File::create_new(path).during("create", path)?;
    match carrack_layer::merge(indexes, &lenders, &mut file, limits) {
        Ok(_) => Ok(true),
        Err(carrack_layer::Error::Index(carrack_erofs::Error::TooLarge { what, limit })) => {
            tracing::debug!(what, limit, "the stack is too large to be merged");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// What is merged.
pub(super) struct MergeStack {
    /// Indexes and what their layers borrow, the lowest first.
    pub layers: Vec<(PathBuf, Parts)>,
    /// What they borrow from, in the order of devices.
    pub lenders: Vec<Lender>,
}

/// What a layer borrows from these lenders. A layer that was whole when its record was written, and borrows from others,
/// is there as a whole still.
fn borrowed(parts: &Parts, lenders: &[Lender]) -> Vec<Borrowed> {
    let numbers: Option<Vec<usize>> =
        parts.lenders().iter().map(|wanted| lenders.iter().position(|lender| lender == wanted)).collect();
    let Some(numbers) = numbers else { return Vec::new() };
    let block = |bytes: u64| u32::try_from(bytes / BLOCK_BYTES).unwrap_or(u32::MAX);
    let borrowed = parts.parts().iter().map(|part| Borrowed {
        blocks: block(part.offset)..block((part.offset + part.size_bytes).next_multiple_of(BLOCK_BYTES)),
        lender: numbers[part.lender],
        lender_block: block(part.lender_offset),
    });
    borrowed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(names: impl Iterator<Item = String>) -> Vec<u8> {
        let mut tar = carrack_layer::tar::Writer::new(Vec::new());
        for name in names {
            tar.append(&crate::suite::entry(&name), name.as_bytes()).unwrap();
        }
        tar.finish().unwrap()
    }

    #[test]
    fn a_large_layer_that_comes_while_another_is_indexed_is_indexed_later_from_its_tar() {
        let folder = tempfile::tempdir().unwrap();
        let content = ContentStore::open(&folder.path().join("content")).unwrap();
        let root = folder.path().join("erofs");
        let folders = Folders::open(&root, &["layers", "merged"]).unwrap();
        let layers = Layers::new(&root, &content);
        let large = tar_of((0..=BESIDE_OTHERS.entries).map(|number| number.to_string()));
        let busy = lock();
        let (layer, size_bytes) = layers.add(&mut large.as_slice(), &folders).unwrap();
        assert_eq!((&layer, size_bytes), (&DiffId(Digest::of(&large)), large.len() as u64));
        assert_eq!(content.size(&layer.0).unwrap(), Some(size_bytes), "the tar is written without waiting");
        assert!(!layers.is_complete(&layer).unwrap(), "its index waits");
        let (small, _) =
            layers.add(&mut tar_of(["file".to_owned()].into_iter()).as_slice(), &folders).unwrap();
        assert!(layers.is_complete(&small).unwrap(), "a small one is indexed beside");
        drop(busy);
        layers.add(&mut tar_of([].into_iter()).as_slice(), &folders).unwrap();
        for layer in [&layer, &small] {
            assert!(layers.is_complete(layer).unwrap(), "who is free next has indexed it");
            assert_eq!(layers.compare(layer, &folders).unwrap(), None);
        }
    }

    #[test]
    fn a_folder_that_a_loss_of_power_has_emptied_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let content = ContentStore::open(&folder.path().join("content")).unwrap();
        let root = folder.path().join("erofs");
        let folders = Folders::open(&root, &["layers", "merged"]).unwrap();
        let layers = Layers::new(&root, &content);
        let tar = tar_of(["file".to_owned()].into_iter());
        let layer = DiffId(Digest::of(&tar));
        fs::create_dir(layers.path(&layer)).unwrap();
        layers.add(&mut tar.as_slice(), &folders).unwrap();
        assert!(layers.is_complete(&layer).unwrap());
    }
}
