//! Where compressed layers came from, so that their exact bytes can be had again although the store keeps only the tar.
//!
//! ```text
//! <root>/
//!   <algorithm>-<hex of the compressed digest>.json   one origin
//!   lock                                              held alone by whoever writes
//! ```
//!
//! Invariant: an origin is a hint. Whoever follows one verifies the bytes, and one that is missing or cannot be read
//! costs no more than the digest of a manifest; so origins are not synced.

use std::fs;
use std::path::{Path, PathBuf};

use carrack_layer::compression::{ENCODER, Method};
use carrack_oci::{DiffId, Digest, Repository, parse_strict};
use carrack_sys::atomic::{self, Durability};
use carrack_sys::lock::Lock;
use carrack_sys::{IoContext, tree};
use serde::{Deserialize, Serialize};

use crate::Result;

/// Each is a request when the layer is looked for.
const MAX_REPOSITORIES: usize = 8;

/// What is known of one compressed layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerOrigin {
    /// The digest of the compressed bytes.
    pub digest: Digest,
    /// How many they are.
    pub size_bytes: u64,
    /// The digest of the tar.
    pub diff_id: DiffId,
    /// The repositories that had it, the newest first.
    pub repositories: Vec<Repository>,
    /// How carrack made it.
    recipe: Option<Recipe>,
}

/// A method of compression, with the revision of the compressor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    method: String,
    encoder: u32,
}

impl LayerOrigin {
    /// A layer that nothing more is known of.
    pub fn new(digest: Digest, size_bytes: u64, diff_id: DiffId) -> Self {
        Self { digest, size_bytes, diff_id, repositories: Vec::new(), recipe: None }
    }

    /// The same layer, which `repository` has.
    pub fn seen_in(mut self, repository: &Repository) -> Self {
        self.repositories.retain(|known| known != repository);
        self.repositories.insert(0, repository.clone());
        self.repositories.truncate(MAX_REPOSITORIES);
        self
    }

    /// The same layer, which carrack made by `method`.
    pub fn made_by(mut self, method: Method) -> Self {
        self.recipe = Some(Recipe { method: method.to_string(), encoder: ENCODER });
        self
    }

    /// How to make it again; `None` when it was made by other hands, or by a compressor that makes other bytes now.
    pub fn method(&self) -> Option<Method> {
        self.recipe.as_ref().filter(|recipe| recipe.encoder == ENCODER)?.method.parse().ok()
    }
}

/// The origins below one folder; safe to use from several processes.
#[derive(Clone, Debug)]
pub struct LayerOrigins {
    root: PathBuf,
}

impl LayerOrigins {
    /// Opens the store at `root`, which is made with mode 0700 where it is missing.
    pub fn open(root: &Path) -> Result<Self> {
        if !root.is_dir() {
            atomic::create_private_dir(root)?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// What is known of the layer with this compressed digest.
    pub fn get(&self, digest: &Digest) -> Result<Option<LayerOrigin>> {
        let path = self.path(digest);
        Ok(atomic::read(&path)?.and_then(|bytes| parse(&bytes)).filter(|origin| origin.digest == *digest))
    }

    /// Every origin of layers whose tar is `diff_id`.
    pub fn of_tar(&self, diff_id: &DiffId) -> Result<Vec<LayerOrigin>> {
        Ok(self.list()?.into_iter().filter(|origin| origin.diff_id == *diff_id).collect())
    }

    /// Adds what `origin` says to what is known of the layer.
    pub fn note(&self, origin: LayerOrigin) -> Result<()> {
        let _lock = Lock::exclusive(&self.root.join("lock"))?;
        let known = self.get(&origin.digest)?.filter(|known| known.diff_id == origin.diff_id);
        let merged = match known.clone() {
            None => origin,
            Some(known) => {
                let recipe = origin.recipe.clone().or(known.recipe.clone());
                let seen = origin.repositories.iter().rev();
                LayerOrigin { recipe, ..seen.fold(known, LayerOrigin::seen_in) }
            }
        };
        if known.as_ref() == Some(&merged) {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&merged).expect("an origin has string keys only");
        Ok(atomic::write(&self.path(&merged.digest), &bytes, 0o600, Durability::Volatile)?)
    }

    /// Forgets how a layer was made: the recipe turned out to make other bytes.
    pub fn forget_recipe(&self, digest: &Digest) -> Result<()> {
        let _lock = Lock::exclusive(&self.root.join("lock"))?;
        let Some(origin) = self.get(digest)? else { return Ok(()) };
        let origin = LayerOrigin { recipe: None, ..origin };
        let bytes = serde_json::to_vec(&origin).expect("an origin has string keys only");
        Ok(atomic::write(&self.path(digest), &bytes, 0o600, Durability::Volatile)?)
    }

    /// Drops every origin that `is_kept` does not want, and what cannot be read.
    pub fn retain(&self, is_kept: impl Fn(&LayerOrigin) -> bool) -> Result<()> {
        let _lock = Lock::exclusive(&self.root.join("lock"))?;
        self.unwanted(is_kept)?.iter().try_for_each(|path| Ok(tree::remove_tree(path)?))
    }

    /// What [`retain`](Self::retain) removes.
    pub fn unwanted(&self, is_kept: impl Fn(&LayerOrigin) -> bool) -> Result<Vec<PathBuf>> {
        let mut unwanted = self.files()?;
        unwanted.retain(|path| {
            // What is no file cannot be read either.
            let origin = atomic::read(path).ok().flatten().and_then(|bytes| parse(&bytes));
            !origin.is_some_and(|origin| self.path(&origin.digest) == *path && is_kept(&origin))
        });
        Ok(unwanted)
    }

    /// Every origin, in no order.
    pub fn list(&self) -> Result<Vec<LayerOrigin>> {
        let mut origins = Vec::new();
        for path in self.files()? {
            origins.extend(atomic::read(&path).ok().flatten().and_then(|bytes| parse(&bytes)));
        }
        Ok(origins)
    }

    /// All files but the lock; also temporary ones that a crash left.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.root).during("list", &self.root)? {
            let path = entry.during("list", &self.root)?.path();
            if path.file_name().is_some_and(|name| name != "lock") {
                files.push(path);
            }
        }
        Ok(files)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(format!("{}-{}.json", digest.algorithm(), digest.hex()))
    }
}

/// Reads an origin; one that a crash has cut short is none.
fn parse(bytes: &[u8]) -> Option<LayerOrigin> {
    parse_strict(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(layer: &[u8], tar: &[u8]) -> LayerOrigin {
        LayerOrigin::new(Digest::of(layer), layer.len() as u64, DiffId(Digest::of(tar)))
    }

    fn repository(text: &str) -> Repository {
        text.parse().unwrap()
    }

    fn store() -> (tempfile::TempDir, LayerOrigins) {
        let folder = tempfile::tempdir().unwrap();
        let origins = LayerOrigins::open(&folder.path().join("layer-origins")).unwrap();
        (folder, origins)
    }

    #[test]
    fn notes_add_up_with_the_newest_repository_first() {
        let (_folder, origins) = store();
        let layer = origin(b"layer", b"tar");
        origins.note(layer.clone().seen_in(&repository("one.example/a"))).unwrap();
        origins.note(layer.clone().made_by(Method::DEFAULT_ZSTD)).unwrap();
        for name in ["two.example/b", "one.example/a", "two.example/b"] {
            origins.note(layer.clone().seen_in(&repository(name))).unwrap();
        }
        let known = origins.get(&layer.digest).unwrap().unwrap();
        let seen: Vec<_> = known.repositories.iter().map(ToString::to_string).collect();
        assert_eq!(seen, ["two.example/b", "one.example/a"]);
        assert_eq!(known.method(), Some(Method::DEFAULT_ZSTD));
        for number in 0..20 {
            origins.note(layer.clone().seen_in(&repository(&format!("one.example/{number}")))).unwrap();
        }
        assert_eq!(origins.get(&layer.digest).unwrap().unwrap().repositories.len(), MAX_REPOSITORIES);
        origins.forget_recipe(&layer.digest).unwrap();
        assert_eq!(origins.get(&layer.digest).unwrap().unwrap().method(), None);
    }

    #[test]
    fn finds_by_tar_and_drops_what_is_not_wanted() {
        let (folder, origins) = store();
        for layer in [&b"gzip"[..], b"zstd", b"other"] {
            origins.note(origin(layer, if layer == b"other" { b"b" } else { b"a" })).unwrap();
        }
        assert_eq!(origins.of_tar(&DiffId(Digest::of(b"a"))).unwrap().len(), 2);
        fs::write(folder.path().join("layer-origins/.x.json.1.tmp"), "half").unwrap();
        origins.retain(|origin| origin.digest == Digest::of(b"zstd")).unwrap();
        assert_eq!(origins.list().unwrap(), [origin(b"zstd", b"a")]);
        assert_eq!(origins.files().unwrap().len(), 1, "what a crash left is gone");
    }

    #[test]
    fn what_a_crash_cut_short_or_an_older_compressor_made_is_not_used() {
        let (_folder, origins) = store();
        let layer = origin(b"layer", b"tar");
        let recipe = Some(Recipe { method: "gzip:6".to_owned(), encoder: ENCODER + 1 });
        origins.note(LayerOrigin { recipe, ..layer.clone() }).unwrap();
        assert_eq!(origins.get(&layer.digest).unwrap().unwrap().method(), None);
        fs::write(origins.path(&layer.digest), "").unwrap();
        assert_eq!(origins.get(&layer.digest).unwrap(), None);
        origins.note(layer.clone()).unwrap();
        assert_eq!(origins.get(&layer.digest).unwrap(), Some(layer));
    }
}
