//! How the layers of a stack become one view: merged images, and what is mounted on top of them.
//!
//! Invariant: a merged image has its name only when it is complete; equal names mean equal images, so it does not matter
//! who made it, or when: what the layers borrow is in the name, because it may be something else when they come again.

use std::path::{Path, PathBuf};

use carrack_content::Parts;
use carrack_layer::Limits;
use carrack_oci::{ChainId, Digest};
use carrack_sys::atomic::{self, Durability};

use super::layers::{self, Layers, MergeStack};
use crate::folders::{Folders, file_name, files_of, folder_names, parse_file_name};
use crate::record::Record;
use crate::{Error, ImageMount, Lower, Mount, Result};

/// As many layers are stacked on a merged image before they are merged with it: more would make lookups slower, fewer
/// would make every step of a build write an index of the whole.
const MAX_STACKED: usize = 8;
/// The end of the name of a file that stands in for a merged image that cannot be made.
const REFUSED: &str = ".too-large";

/// The merged images of a store.
#[derive(Debug)]
pub(super) struct Stacks {
    folder: PathBuf,
    shares: Option<PathBuf>,
    limits: Limits,
}

impl Stacks {
    pub fn new(root: &Path, shares: Option<&Path>) -> Self {
        Self { folder: root.join("merged"), shares: shares.map(Path::to_owned), limits: Limits::default() }
    }

    /// The same with other bounds of merged images.
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Where the merged image of a snapshot is, if there is one; `record` is the snapshot's, or of one that stands on it
    /// and borrows nothing more.
    pub fn path(&self, id: &ChainId, record: &Record) -> PathBuf {
        self.folder.join(image_name(id, record.sharing.as_ref()))
    }

    /// What is mounted to see a snapshot whose lower layers are those of `lowers`; `active` has its upper folder.
    pub fn mount(&self, mut lowers: Vec<ImageMount>, active: Option<&PathBuf>) -> Mount {
        match active {
            None if lowers.len() == 1 => Mount::Image(lowers.remove(0)),
            Some(active) if lowers.is_empty() => Mount::Bind { source: files_of(active), read_only: false },
            active => Mount::Overlay {
                lowers: lowers.into_iter().map(Lower::Image).collect(),
                upper: active.map(|active| files_of(active)),
                work: active.map(|active| active.join("work")),
                volatile: false,
            },
        }
    }

    /// The images that show what `record` stands on, topmost first: the layers above the nearest merged image, and
    /// that image.
    pub fn lowers(&self, record: &Record, layers: &Layers, folders: &Folders) -> Result<Vec<ImageMount>> {
        let stack = record.visible();
        let above = stack.iter().position(|id| self.path(id, record).exists()).unwrap_or(stack.len());
        let is_plain = stack.is_empty()
            || self.can_stack(record, above, layers, folders)?
            || !self.seal(record, layers, folders)?;
        let above = if is_plain { above } else { 0 };
        let visible = &record.layers[..stack.len()];
        let tar = |layer| layers.tar(layer, !record.lenders.is_empty());
        let mut lowers = Vec::with_capacity(above + 1);
        for layer in &visible[..above] {
            let shares =
                self.shares.as_ref().map(|folder| folder.join(format!("layer-{}", file_name(&layer.0))));
            lowers.push(ImageMount { index: layers.index(layer), devices: vec![tar(layer)], shares });
        }
        if let Some(id) = stack.get(above) {
            let shares = self.shares.as_ref().map(|folder| folder.join(file_name(&id.0)));
            // The devices of a merged image are those of its layers, the lowest first, and what these borrow from.
            let mut devices: Vec<_> = visible[above..].iter().rev().map(tar).collect();
            devices.extend(record.lenders.iter().map(|lender| layers.content().own_bytes(&lender.digest)));
            lowers.push(ImageMount { index: self.path(id, record), devices, shares });
        }
        Ok(lowers)
    }

    /// Whether the `above` topmost layers may be put on the rest by overlayfs.
    fn can_stack(&self, record: &Record, above: usize, layers: &Layers, folders: &Folders) -> Result<bool> {
        // Without an upper folder, the topmost layer would say how the root looks, and few layers do.
        if above > MAX_STACKED || (record.is_view && above > 0 && record.visible().len() > 1) {
            return Ok(false);
        }
        let is_lowest = |place: usize| place + 1 == record.visible().len();
        for (place, layer) in record.layers[..above].iter().enumerate() {
            let summary = layers.ensure(layer, folders)?;
            // Whiteouts at the very bottom would be seen, there is nothing that they hide.
            let is_alone = is_lowest(place);
            // Links at the very bottom lead nowhere; it is for the merge to say so.
            let needs_merge = summary.has_links_below
                || (summary.needs_below && !is_alone)
                || (!record.lenders.is_empty() && !layers.is_whole(layer));
            if needs_merge || (summary.has_whiteouts && is_alone) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the merged image of what `record` stands on, so that it is one lower layer; `false` when it cannot be
    /// made, because it would have too many entries, and the layers can be stacked one by one.
    pub fn seal(&self, record: &Record, layers: &Layers, folders: &Folders) -> Result<bool> {
        let stack = record.visible();
        let Some(top) = stack.first() else { return Ok(true) };
        let is_one = stack.len() == 1 && self.can_stack(record, 1, layers, folders)?;
        if is_one || self.path(top, record).exists() {
            return Ok(true);
        }
        let visible = &record.layers[..stack.len()];
        let mut linked = None;
        for layer in visible {
            let has_links = layers.ensure(layer, folders)?.has_links_below;
            linked = linked.or(has_links.then_some(layer));
        }
        let refuse = || match linked {
            Some(layer) => Err(Error::Unmergeable { id: top.clone(), layer: layer.clone() }),
            None => Ok(false),
        };
        if self.refused_path(top).exists() {
            return refuse();
        }
        let staged = folders.stage()?;
        let file = staged.path.join("merged");
        if !layers::merge(&merge_stack(record, layers)?, &file, self.limits)? {
            // One by one they are mounted as they are.
            visible.iter().try_for_each(|layer| layers.make_whole(layer))?;
            // Nobody shall try again for each container: it takes seconds.
            atomic::write(&self.refused_path(top), b"", 0o600, Durability::Volatile)?;
            return refuse();
        }
        atomic::rename_durably(&file, &self.path(top, record))?;
        Ok(true)
    }

    /// Merges the stack of `record` once more and compares: the merged image, when it is another.
    pub fn compare(
        &self,
        id: &ChainId,
        record: &Record,
        layers: &Layers,
        folders: &Folders,
    ) -> Result<Option<PathBuf>> {
        let path = self.path(id, record);
        if !path.exists() {
            return Ok(None); // it is made when it is needed
        }
        let visible = &record.layers[..record.visible().len()];
        let staged = folders.stage()?;
        let file = staged.path.join("merged");
        for layer in visible {
            layers.ensure(layer, folders)?;
        }
        let stack = merge_stack(record, layers)?;
        let is_same = layers::merge(&stack, &file, self.limits)? && layers::same_content(&file, &path)?;
        Ok((!is_same).then_some(path))
    }

    /// The merged images of what is no committed snapshot.
    pub fn unused(&self, folders: &Folders) -> Result<Vec<PathBuf>> {
        let mut unused = Vec::new();
        for name in folder_names(&self.folder)? {
            let is_mark = name.ends_with(REFUSED);
            let chain = name.split(['+', '.']).next().and_then(parse_file_name).map(ChainId);
            let is_used = match chain {
                Some(id) => Record::read(&folders.committed(&id))?
                    .is_some_and(|record| is_mark || name == image_name(&id, record.sharing.as_ref())),
                None => false,
            };
            if !is_used {
                unused.push(self.folder.join(name));
            }
        }
        Ok(unused)
    }

    /// An empty file that says that the stack is too large to be merged.
    fn refused_path(&self, id: &ChainId) -> PathBuf {
        self.folder.join(format!("{}{REFUSED}", file_name(&id.0)))
    }

    /// Removes the merged image of a snapshot, if there is one.
    pub fn remove(&self, id: &ChainId, record: &Record) -> Result<()> {
        atomic::remove_file(&self.refused_path(id))?;
        Ok(atomic::remove_file(&self.path(id, record))?)
    }

    /// Removes what belongs to no committed snapshot.
    pub fn retain(&self, folders: &Folders) -> Result<()> {
        self.unused(folders)?.iter().try_for_each(|path| Ok(atomic::remove_file(path)?))
    }
}

/// What the merged image of a snapshot is called whose layers borrow so.
fn image_name(id: &ChainId, sharing: Option<&Digest>) -> String {
    match sharing {
        None => file_name(&id.0),
        Some(sharing) => format!("{}+{}", file_name(&id.0), &sharing.hex()[..16]),
    }
}

/// What a merged image of all that can be seen of `record` is made of.
fn merge_stack(record: &Record, layers: &Layers) -> Result<MergeStack> {
    let visible = record.layers[..record.visible().len()].iter().rev();
    let lenders = record.lenders.clone();
    let parts = |layer| if lenders.is_empty() { Ok(Parts::default()) } else { layers.parts(layer) };
    let layers = visible.map(|layer| Ok((layers.index(layer), parts(layer)?)));
    Ok(MergeStack { layers: layers.collect::<Result<_>>()?, lenders })
}
