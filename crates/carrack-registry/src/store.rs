//! All repositories and the content they share: the operations of which each is whole or leaves what a repetition
//! completes.
//!
//! Invariants: content is put in the store before a repository names it, and a repository's manifest is recorded before
//! a tag or a list of referrers names it; removal goes the other way. Changes of one repository come one after the
//! other. Collection runs only while nothing is being named.

use std::fs::File;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use carrack_content::ContentStore;
use carrack_oci::{Descriptor, Digest, Document};
use hyper::body::Bytes;

use crate::cache::{ManifestCache, StoredManifest};
use crate::failure::{Answer, Failure};
use crate::name::{ManifestKey, RepositoryName, Tag};
use crate::repository::{Repository, all_names};
use crate::session::Upload;
use crate::{Result, referrers};

const TURNS: usize = 64;

/// See the module. Every method may block on the disk, except [`Store::cached`].
pub(crate) struct Store {
    pub(crate) repositories: PathBuf,
    pub(crate) content: ContentStore,
    /// Held shared from before content is looked at or put until a repository names it; exclusively by a collection.
    pub(crate) naming: RwLock<()>,
    /// Whether something was removed since the last collection.
    pub(crate) has_garbage: AtomicBool,
    turns: [Mutex<()>; TURNS],
    manifests: ManifestCache,
}

/// A manifest on its way in.
pub(crate) struct NewManifest {
    /// What `bytes` were checked to be.
    pub document: Document,
    /// The type it was announced as.
    pub media_type: String,
    /// The exact bytes, with the digest `digest`.
    pub bytes: Bytes,
    /// The digest under which it can be pulled.
    pub digest: Digest,
    /// What is to name it.
    pub tags: Vec<Tag>,
}

impl Store {
    /// Opens the folders `content` and `repositories` below `root`.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let repositories = root.join("repositories");
        carrack_sys::atomic::create_private_dir(&repositories)?;
        Ok(Self {
            repositories,
            content: ContentStore::open(&root.join("content"))?,
            naming: RwLock::new(()),
            has_garbage: AtomicBool::new(true),
            turns: std::array::from_fn(|_| Mutex::new(())),
            manifests: ManifestCache::default(),
        })
    }

    pub(crate) fn repository(&self, name: &RepositoryName) -> Repository {
        Repository::new(&self.repositories, name)
    }

    /// Runs `change` alone among the changes of `name`; what is in memory of the repository is forgotten after it.
    fn change<T>(&self, name: &RepositoryName, change: impl FnOnce(&Repository) -> Answer<T>) -> Answer<T> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(name);
        let turn = &self.turns[(hash % TURNS as u64) as usize];
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&self.repository(name));
        self.manifests.forget(name);
        result
    }

    /// The size in bytes of a blob that the repository has.
    pub(crate) fn blob_size(&self, name: &RepositoryName, digest: &Digest) -> Answer<u64> {
        let is_linked = self.repository(name).has_blob(digest)?;
        let size = if is_linked { self.content.size(digest)? } else { None };
        size.ok_or_else(|| Failure::BlobUnknown { digest: digest.clone() })
    }

    /// Opens a blob that the repository has.
    pub(crate) fn open_blob(&self, name: &RepositoryName, digest: &Digest) -> Answer<File> {
        if !self.repository(name).has_blob(digest)? {
            return Err(Failure::BlobUnknown { digest: digest.clone() });
        }
        Ok(self.content.open_file(digest)?)
    }

    /// Takes the bytes of an upload as a blob of the repository, if they have `digest`.
    pub(crate) fn commit_upload(
        &self,
        name: &RepositoryName,
        upload: &mut Upload,
        digest: &Digest,
    ) -> Answer<()> {
        upload.verify(digest)?;
        let _naming = self.naming.read().unwrap_or_else(PoisonError::into_inner);
        self.content.adopt(upload.path(), digest)?;
        Ok(self.repository(name).link_blob(digest)?)
    }

    /// Gives the repository a blob that `from` has; false when `from` does not have it.
    pub(crate) fn mount_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        from: &RepositoryName,
    ) -> Answer<bool> {
        let _naming = self.naming.read().unwrap_or_else(PoisonError::into_inner);
        let is_there = self.repository(from).has_blob(digest)? && self.content.size(digest)?.is_some();
        if is_there {
            self.repository(name).link_blob(digest)?;
        }
        Ok(is_there)
    }

    /// Takes a blob away from the repository.
    pub(crate) fn delete_blob(&self, name: &RepositoryName, digest: &Digest) -> Answer<()> {
        if !self.repository(name).unlink_blob(digest)? {
            return Err(Failure::BlobUnknown { digest: digest.clone() });
        }
        self.has_garbage.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The manifest, when it is in memory.
    pub(crate) fn cached(&self, name: &RepositoryName, key: &ManifestKey) -> Option<Arc<StoredManifest>> {
        self.manifests.get(name, key).ok()
    }

    /// The manifest that `key` names, verified.
    pub(crate) fn manifest(&self, name: &RepositoryName, key: &ManifestKey) -> Answer<Arc<StoredManifest>> {
        let generation = match self.manifests.get(name, key) {
            Ok(manifest) => return Ok(manifest),
            Err(generation) => generation,
        };
        let repository = self.repository(name);
        let unknown = || Failure::ManifestUnknown { key: key.as_str().to_owned() };
        let digest = match key {
            ManifestKey::Digest(digest) => digest.clone(),
            ManifestKey::Tag(tag) => match repository.tag(tag)? {
                Some(digest) => digest,
                None if repository.exists() => return Err(unknown()),
                None => return Err(Failure::NameUnknown { name: name.to_string() }),
            },
        };
        let media_type = repository.media_type(&digest)?.ok_or_else(unknown)?;
        let bytes = Bytes::from(self.content.read(&digest)?);
        let manifest = Arc::new(StoredManifest { digest, media_type, bytes });
        self.manifests.insert(generation, name, key, &manifest);
        Ok(manifest)
    }

    /// Stores a manifest whose blobs and manifests the repository has (distribution-spec, "Pushing Manifests").
    pub(crate) fn put_manifest(&self, name: &RepositoryName, manifest: &NewManifest) -> Answer<()> {
        let _naming = self.naming.read().unwrap_or_else(PoisonError::into_inner);
        self.change(name, |repository| {
            self.check_references(repository, &manifest.document)?;
            self.put_content(manifest)?;
            repository.record_manifest(&manifest.digest, &manifest.media_type)?;
            if let Some((subject, referrer)) = referrers::describe(manifest) {
                repository.add_referrer(&subject, &referrer)?;
            }
            for tag in &manifest.tags {
                repository.set_tag(tag, &manifest.digest)?;
            }
            Ok(())
        })
    }

    fn put_content(&self, manifest: &NewManifest) -> Answer<()> {
        let size_bytes = manifest.bytes.len() as u64;
        let descriptor = Descriptor::new(&manifest.media_type, manifest.digest.clone(), size_bytes);
        let mut ingest = self.content.ingest(&descriptor)?;
        ingest.restart()?;
        ingest.write_all(&manifest.bytes).map_err(|source| {
            let path = self.content.blob_path(&manifest.digest);
            carrack_sys::Error { verb: "write", path, source }
        })?;
        Ok(ingest.commit()?)
    }

    /// All that a manifest or index names must be in the repository, with the size it says; layers that are kept
    /// elsewhere (with `urls`) need not be, and neither need the subject.
    fn check_references(&self, repository: &Repository, document: &Document) -> Answer<()> {
        let mut missing = Vec::new();
        let mut check = |descriptor: &Descriptor, is_there: bool| -> Answer<()> {
            let digest = &descriptor.digest;
            match if is_there { self.content.size(digest)? } else { None } {
                None => missing.push(digest.clone()),
                Some(got) if got != descriptor.size => {
                    return Err(Failure::SizeInvalid { expected: descriptor.size, got });
                }
                Some(_) => {}
            }
            Ok(())
        };
        match document {
            Document::Manifest(manifest) => {
                let layers =
                    manifest.layers.iter().filter(|layer| layer.urls.as_ref().is_none_or(Vec::is_empty));
                for descriptor in layers.chain([&manifest.config]) {
                    check(descriptor, repository.has_blob(&descriptor.digest)?)?;
                }
            }
            Document::Index(index) => {
                for entry in &index.manifests {
                    let digest = &entry.digest;
                    check(entry, repository.media_type(digest)?.is_some() || repository.has_blob(digest)?)?;
                }
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(Failure::ManifestBlobUnknown { missing }) }
    }

    /// Removes a tag (distribution-spec, "Deleting tags").
    pub(crate) fn delete_tag(&self, name: &RepositoryName, tag: &Tag) -> Answer<()> {
        self.change(name, |repository| match repository.remove_tag(tag)? {
            true => Ok(()),
            false => Err(Failure::ManifestUnknown { key: tag.as_str().to_owned() }),
        })
    }

    /// Removes a manifest and, before it, all tags that name it (distribution-spec, "Deleting Manifests").
    pub(crate) fn delete_manifest(&self, name: &RepositoryName, digest: &Digest) -> Answer<()> {
        let manifest = self.manifest(name, &ManifestKey::Digest(digest.clone()));
        self.change(name, |repository| {
            for tag in repository.tags()? {
                if repository.tag(&tag)?.as_ref() == Some(digest) {
                    repository.remove_tag(&tag)?;
                }
            }
            if let Some(subject) = manifest.ok().and_then(|manifest| referrers::subject(&manifest)) {
                repository.remove_referrer(&subject, digest)?;
            }
            if !repository.remove_manifest(digest)? {
                return Err(Failure::ManifestUnknown { key: digest.to_string() });
            }
            self.has_garbage.store(true, Ordering::Relaxed);
            Ok(())
        })
    }

    /// The tags of a repository, sorted.
    pub(crate) fn tags(&self, name: &RepositoryName) -> Answer<Vec<Tag>> {
        let repository = self.repository(name);
        if !repository.exists() {
            return Err(Failure::NameUnknown { name: name.to_string() });
        }
        Ok(repository.tags()?)
    }

    /// The repositories to which a manifest was pushed, sorted.
    pub(crate) fn names(&self) -> Answer<Vec<RepositoryName>> {
        let mut names = all_names(&self.repositories)?;
        names.retain(|name| self.repository(name).exists());
        Ok(names)
    }
}
