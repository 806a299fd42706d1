//! Tree: the layers of an image, who else has them, and how much of each is no longer seen from above.
//!
//! Invariant: memory is bounded by [`MAX_NAMES`]. Layers are read from the top down, so that only names of upper layers
//! are remembered, each as a keyed hash: two names with one hash would misstate a sum, and cannot be chosen to.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use carrack_image::{Image, ImageRecord};
use carrack_layer::tar::{Entry, EntryKind, Reader};
use carrack_oci::{ChainId, DiffId, Digest};

use crate::error::OperationContext;
use crate::{Engine, Error, Result};

/// The most names that upper layers may have: about 300 MB of memory.
const MAX_NAMES: usize = 8 << 20;
const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// An image with its layers, base first.
#[derive(Debug)]
pub struct ImageTree {
    /// The image ID.
    pub id: Digest,
    /// The image's names.
    pub names: Vec<String>,
    /// The layers.
    pub layers: Vec<TreeLayer>,
}

/// One layer of a tree.
#[derive(Debug)]
pub struct TreeLayer {
    /// The digest of its tar.
    pub diff_id: DiffId,
    /// The stack up to it.
    pub chain_id: ChainId,
    /// What made it, where the image's history says so.
    pub created_by: String,
    /// The length of all its files.
    pub size_bytes: u64,
    /// The length of those of its files that upper layers replace or remove.
    pub wasted_bytes: u64,
    /// How many files these are.
    pub wasted_files: u64,
    /// Other images that have this stack: a name of each, or its ID.
    pub shared_with: Vec<String>,
}

impl Engine {
    /// The tree of the image that `name` names. Reads the whole image.
    pub fn image_tree(&self, name: &str) -> Result<ImageTree> {
        self.read_tree(name).operation("show the layers of", name)
    }

    fn read_tree(&self, name: &str) -> Result<ImageTree> {
        let _operation = self.operation()?;
        let found = self.images.find(name)?;
        let image = Image::load(&self.content, &found.record.manifest)?;
        let history = image.config.history.iter().filter(|entry| !entry.empty_layer);
        let mut created_by = history.map(|entry| entry.created_by.clone().unwrap_or_default());
        let others = self.other_stacks(found.record.id())?;
        let mut layers: Vec<TreeLayer> = image
            .layers()
            .into_iter()
            .map(|layer| TreeLayer {
                diff_id: layer.diff_id.clone(),
                created_by: created_by.next().unwrap_or_default(),
                size_bytes: 0,
                wasted_bytes: 0,
                wasted_files: 0,
                shared_with: sharers(&others, &layer.chain_id),
                chain_id: layer.chain_id,
            })
            .collect();
        let mut above = Above::default();
        for (at, layer) in image.layers().into_iter().enumerate().rev() {
            let tar = self.open_layer_tar(&layer.descriptor.digest, layer.diff_id)?;
            let sum = above.take_layer(tar, at > 0).operation("read layer", layer.diff_id)?;
            layers[at].size_bytes = sum.size_bytes;
            layers[at].wasted_bytes = sum.wasted_bytes;
            layers[at].wasted_files = sum.wasted_files;
        }
        let names = found.names.iter().filter_map(|record| Some(record.reference.as_ref()?.familiar()));
        Ok(ImageTree { id: found.record.id().clone(), names: names.collect(), layers })
    }

    /// Name and stacks of every other image.
    fn other_stacks(&self, id: &Digest) -> Result<Vec<(String, Vec<ChainId>)>> {
        let mut seen = HashSet::from([id.clone()]);
        let mut stacks = Vec::new();
        for record in self.images.list()? {
            if seen.insert(record.id().clone()) {
                let image = Image::load(&self.content, &record.manifest)?;
                let chains = image.layers().into_iter().map(|layer| layer.chain_id).collect();
                stacks.push((display_name(&record), chains));
            }
        }
        Ok(stacks)
    }
}

fn display_name(record: &ImageRecord) -> String {
    record.reference.as_ref().map_or_else(|| record.id().short().to_owned(), |name| name.familiar())
}

fn sharers(others: &[(String, Vec<ChainId>)], chain: &ChainId) -> Vec<String> {
    let has = |(_, chains): &&(String, Vec<ChainId>)| chains.contains(chain);
    others.iter().filter(has).map(|(name, _)| name.clone()).collect()
}

/// The sums of one layer.
#[derive(Default)]
struct Sum {
    size_bytes: u64,
    wasted_bytes: u64,
    wasted_files: u64,
}

/// What the layers above the current one do to names, as hashes of paths.
#[derive(Default)]
struct Above {
    key: RandomState,
    /// Something stands here, or was removed from here: a lower file of this name is not seen.
    taken: HashSet<u64>,
    /// Nothing below this folder is seen of lower layers.
    hidden_below: HashSet<u64>,
}

impl Above {
    /// Sums up a layer, then adds what it does; the lowest layer does nothing to others.
    fn take_layer(&mut self, tar: impl Read, has_lower: bool) -> Result<Sum> {
        let mut own = Self { key: self.key.clone(), ..Self::default() };
        let mut sum = Sum::default();
        // Files of this layer that are not seen by their first name; another name may still be.
        let mut unseen: HashMap<u64, u64> = HashMap::new();
        let mut reader = Reader::new(tar);
        while let Some(entry) = reader.next_entry()? {
            let path = normal(&entry.path);
            if let EntryKind::Hardlink { target } = &entry.kind {
                let target = self.key.hash_one(normal(target));
                if let Some(size_bytes) = unseen.get(&target).copied()
                    && !self.hides(&path)
                {
                    unseen.remove(&target);
                    sum.wasted_bytes -= size_bytes;
                    sum.wasted_files -= 1;
                }
            } else if entry.kind == EntryKind::File && !is_whiteout(&path) {
                sum.size_bytes += entry.size_bytes;
                if self.hides(&path) {
                    sum.wasted_bytes += entry.size_bytes;
                    sum.wasted_files += 1;
                    unseen.insert(self.key.hash_one(&path), entry.size_bytes);
                }
            }
            if has_lower {
                own.add(&path, &entry);
            }
            if self.len() + own.len() + unseen.len() > MAX_NAMES {
                let message = format!("its layers have more than {MAX_NAMES} names");
                return Err(Error::refused(message, ""));
            }
        }
        self.taken.extend(own.taken);
        self.hidden_below.extend(own.hidden_below);
        Ok(sum)
    }

    fn len(&self) -> usize {
        self.taken.len() + self.hidden_below.len()
    }

    /// Whether a file of a lower layer is not seen under `path`.
    fn hides(&self, path: &Path) -> bool {
        let mut folders = path.ancestors().skip(1);
        self.taken.contains(&self.key.hash_one(path))
            || folders.any(|folder| self.hidden_below.contains(&self.key.hash_one(folder)))
    }

    fn add(&mut self, path: &Path, entry: &Entry) {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let folder = path.parent().unwrap_or(Path::new(""));
        if name == OPAQUE {
            self.hidden_below.insert(self.key.hash_one(folder));
        } else if let Some(removed) = name.strip_prefix(WHITEOUT_PREFIX) {
            self.take(&folder.join(OsStr::from_bytes(removed)), true);
        } else {
            self.take(path, entry.kind != EntryKind::Directory);
        }
    }

    fn take(&mut self, path: &Path, with_all_below: bool) {
        let hash = self.key.hash_one(path);
        self.taken.insert(hash);
        if with_all_below {
            self.hidden_below.insert(hash);
        }
    }
}

fn is_whiteout(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(WHITEOUT_PREFIX))
}

/// A path without `.` and the leading `/`: archives write one name in several ways.
fn normal(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use carrack_testkit::ImageFixture;

    /// Size, wasted bytes and wasted files of each layer, base first.
    fn sums(layers: &[&str]) -> Vec<(u64, u64, u64)> {
        let mut above = Above::default();
        let sum = |(at, lines): (usize, &&str)| {
            let sum = above.take_layer(ImageFixture::tar(lines).as_slice(), at > 0).unwrap();
            (sum.size_bytes, sum.wasted_bytes, sum.wasted_files)
        };
        let mut sums: Vec<_> = layers.iter().enumerate().rev().map(sum).collect();
        sums.reverse();
        sums
    }

    #[test]
    fn what_upper_layers_replace_or_remove_is_wasted() {
        let base = "/a \"12345\"\n/b \"123\"\n/d/\n/d/x \"1234567\"\n/e/\n/e/y \"12\"";
        assert_eq!(sums(&[base]), [(17, 0, 0)]);
        assert_eq!(sums(&[base, "/a \"1\""]), [(17, 5, 1), (1, 0, 0)], "replaced");
        assert_eq!(sums(&[base, "/d/\n/e/ 0700"]), [(17, 0, 0), (0, 0, 0)], "a folder hides nothing");
        assert_eq!(sums(&[base, "/d whiteout\n/b whiteout"])[0], (17, 10, 2), "removed with all below");
        assert_eq!(sums(&[base, "/d/ opaque\n/d/z \"1\""])[0], (17, 7, 1), "opaque");
        assert_eq!(sums(&[base, "/d -> e"])[0], (17, 7, 1), "a folder that became a link");
        assert_eq!(sums(&[base, "/a whiteout", "/a \"22\""]), [(17, 5, 1), (0, 0, 0), (2, 0, 0)]);
        assert_eq!(sums(&[base, "/a \"1\"", "/a \"22\""]), [(17, 5, 1), (1, 1, 1), (2, 0, 0)]);
    }

    #[test]
    fn a_file_is_not_wasted_while_one_of_its_names_is_seen() {
        let base = "/a \"12345\"\n/b => a";
        assert_eq!(sums(&[base, "/a whiteout"])[0], (5, 0, 0));
        assert_eq!(sums(&[base, "/b whiteout"])[0], (5, 0, 0));
        assert_eq!(sums(&[base, "/a whiteout\n/b whiteout"])[0], (5, 5, 1));
    }
}
