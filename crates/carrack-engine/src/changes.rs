//! Diff: what a container has changed on its image, or an image's top layer on those below, name by name.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use carrack_container::Container;
use carrack_image::Image;
use carrack_layer::DiffOptions;
use carrack_layer::tar::Reader;
use carrack_oci::ChainId;
use carrack_snapshot::SnapshotKey;
use carrack_sys::IoContext;
use carrack_sys::rooted::Root;
use carrack_sys::tree;

use crate::error::OperationContext;
use crate::{Engine, Error, Result, mount_points};

/// What has become of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It, or what is below it, is another.
    Changed,
    /// It is gone.
    Deleted,
}

impl ChangeKind {
    /// Docker's letter.
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Changed => 'C',
            Self::Deleted => 'D',
        }
    }
}

/// Names, sorted, with what has become of them.
pub type FileChanges = BTreeMap<PathBuf, ChangeKind>;

impl Engine {
    /// The changes of the container, or else of the image, that `text` names.
    pub fn file_changes(&self, text: &str) -> Result<FileChanges> {
        let found = match self.containers.find(text) {
            Err(carrack_container::Error::NotFound { .. }) => self.changes_of_image(text),
            Err(error) => Err(error.into()),
            Ok(container) => self.changes_of_container(&container),
        };
        found.operation("diff", text)
    }

    fn changes_of_container(&self, container: &Container) -> Result<FileChanges> {
        let _operation = self.operation()?;
        let base = self.base_of(&container.record)?;
        let mount_points = self.made_mount_points(container, &base, false)?;
        let options = DiffOptions { mount_points, ..DiffOptions::default() };
        let key = SnapshotKey::new(&container.record.snapshot)?;
        let store = self.store_of(&key)?;
        let chain = self.ensure_image(&base)?;
        self.with_base(chain.as_ref(), |base| {
            let (reader, mut writer) = std::io::pipe().during("create", "a pipe")?;
            std::thread::scope(|scope| {
                let reading = scope.spawn(move || changes_in(reader, base));
                let written = store.get().diff(&key, &options, &mut writer);
                drop(writer);
                let read = reading.join().expect("the thread does not panic");
                // A reader that has failed breaks the pipe, and is the reason then.
                let changes = read?;
                written?;
                Ok(changes)
            })
        })
    }

    fn changes_of_image(&self, text: &str) -> Result<FileChanges> {
        let _operation = self.operation()?;
        let image = Image::load(&self.content, &self.images.find(text)?.record.manifest)?;
        self.ensure_image(&image)?;
        let layers = image.layers();
        let Some((top, below)) = layers.split_last() else { return Ok(FileChanges::new()) };
        let tar = self.open_layer_tar(&top.descriptor.digest, top.diff_id)?;
        self.with_base(below.last().map(|layer| &layer.chain_id), |base| changes_in(tar, base))
    }

    /// Calls `act` with the files of a committed snapshot.
    fn with_base<T>(
        &self,
        chain: Option<&ChainId>,
        act: impl FnOnce(Option<&Root>) -> Result<T>,
    ) -> Result<T> {
        let Some(chain) = chain else { return act(None) };
        let key = SnapshotKey::unique("diff");
        let view = self.snapshots.view(&key, chain)?.open_root();
        let done = view.map_err(Error::from).and_then(|root| act(Some(&root)));
        self.snapshots.discard(&key)?;
        done
    }
}

/// Reads a layer against what it is put on.
fn changes_in(layer: impl Read, base: Option<&Root>) -> Result<FileChanges> {
    let mut changes = FileChanges::new();
    let mut opaque = Vec::new();
    let mut reader = Reader::new(layer).accept_sparse();
    while let Some(entry) = reader.next_entry()? {
        let path = Path::new("/").join(entry.path.strip_prefix("./").unwrap_or(&entry.path));
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match name.strip_prefix(".wh.") {
            Some(".wh..opq") => opaque.push(path.with_file_name("")),
            Some(hidden) if !hidden.starts_with(".wh.") => {
                changes.insert(path.with_file_name(hidden), ChangeKind::Deleted);
            }
            Some(_) => {}
            None if path == Path::new("/") => {}
            None => {
                let is_old = base.map_or(Ok(false), |base| is_there(base, &path))?;
                let kind = if is_old { ChangeKind::Changed } else { ChangeKind::Added };
                changes.insert(path, kind);
            }
        }
    }
    // The writer must not meet a closed pipe.
    std::io::copy(&mut reader.finish()?, &mut std::io::sink()).during("read", "the layer")?;
    for folder in opaque {
        add_hidden(&folder, base, &mut changes)?;
    }
    Ok(changes)
}

/// A folder that hides the one below has deleted all that it does not bring itself.
fn add_hidden(folder: &Path, base: Option<&Root>, changes: &mut FileChanges) -> Result<()> {
    let Some(below) = base.and_then(|base| base.open_dir(folder).ok()) else { return Ok(()) };
    tree::walk(&below, |place| {
        let path = folder.join(place.path());
        let is_new = !changes.contains_key(&path);
        if is_new {
            changes.insert(path, ChangeKind::Deleted);
        }
        // What is below something deleted goes with it.
        Ok::<_, Error>(!is_new)
    })
}

fn is_there(base: &Root, path: &Path) -> Result<bool> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(true) };
    match mount_points::exists(base, folder)? {
        true => Ok(base.open_dir(folder)?.at(name)?.metadata()?.is_some()),
        false => Ok(false),
    }
}
