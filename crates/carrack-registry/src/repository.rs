//! The records of one repository on disk: which blobs and manifests it has, its tags, its referrers.
//!
//! Invariant: a record that a method has written is durable when it returns, and so is a removal. Nothing here looks
//! at content; `store` keeps records and content in order.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use carrack_oci::{Descriptor, Digest};
use carrack_sys::{IoContext, atomic};

use crate::name::{RepositoryName, Tag};
use crate::{Error, Result};

const BLOBS: &str = "_blobs";
const MANIFESTS: &str = "_manifests";
const TAGS: &str = "_tags";
const REFERRERS: &str = "_referrers";

/// A repository's folder; it need not exist.
pub(crate) struct Repository {
    folder: PathBuf,
}

impl Repository {
    /// The repository `name` in the folder of all.
    pub(crate) fn new(repositories: &Path, name: &RepositoryName) -> Self {
        Self { folder: repositories.join(name.as_str()) }
    }

    /// Whether a manifest was ever pushed here: only then a client is told that the repository exists.
    pub(crate) fn exists(&self) -> bool {
        self.folder.join(MANIFESTS).is_dir()
    }

    /// Whether the repository has the blob.
    pub(crate) fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let path = self.by_digest(BLOBS, digest);
        Ok(path.try_exists().during("look up", &path)?)
    }

    /// Gives the repository the blob.
    pub(crate) fn link_blob(&self, digest: &Digest) -> Result<()> {
        let path = self.by_digest(BLOBS, digest);
        create_durable_dir(parent(&path))?;
        File::create(&path).during("create", &path)?;
        Ok(atomic::sync_parent(&path)?)
    }

    /// Takes the blob away; false when the repository did not have it.
    pub(crate) fn unlink_blob(&self, digest: &Digest) -> Result<bool> {
        remove_record(&self.by_digest(BLOBS, digest))
    }

    /// The media type under which the manifest was pushed; `None` when the repository does not have it.
    pub(crate) fn media_type(&self, digest: &Digest) -> Result<Option<String>> {
        read_text(&self.by_digest(MANIFESTS, digest), "a media type")
    }

    /// Gives the repository the manifest.
    pub(crate) fn record_manifest(&self, digest: &Digest, media_type: &str) -> Result<()> {
        write_record(&self.by_digest(MANIFESTS, digest), media_type.as_bytes())
    }

    /// Takes the manifest away; false when the repository did not have it.
    pub(crate) fn remove_manifest(&self, digest: &Digest) -> Result<bool> {
        remove_record(&self.by_digest(MANIFESTS, digest))
    }

    /// What the tag names.
    pub(crate) fn tag(&self, tag: &Tag) -> Result<Option<Digest>> {
        let path = self.folder.join(TAGS).join(tag.as_str());
        let Some(text) = read_text(&path, "a digest")? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Error::Record { path, expected: "a digest" })
    }

    /// Lets the tag name `digest`.
    pub(crate) fn set_tag(&self, tag: &Tag, digest: &Digest) -> Result<()> {
        write_record(&self.folder.join(TAGS).join(tag.as_str()), digest.as_str().as_bytes())
    }

    /// Removes the tag; false when there was none.
    pub(crate) fn remove_tag(&self, tag: &Tag) -> Result<bool> {
        remove_record(&self.folder.join(TAGS).join(tag.as_str()))
    }

    /// All tags, sorted by their bytes.
    pub(crate) fn tags(&self) -> Result<Vec<Tag>> {
        let names = list(&self.folder.join(TAGS))?;
        let mut tags: Vec<_> = names.iter().filter_map(|name| Tag::parse(name)).collect();
        tags.sort();
        Ok(tags)
    }

    /// Records that the manifest `referrer` has the subject `subject`, which need not exist.
    pub(crate) fn add_referrer(&self, subject: &Digest, referrer: &Descriptor) -> Result<()> {
        let bytes = serde_json::to_vec(referrer).expect("a descriptor has only string keys");
        write_record(&self.referrer(subject, &referrer.digest), &bytes)
    }

    /// Takes back what [`Self::add_referrer`] did.
    pub(crate) fn remove_referrer(&self, subject: &Digest, referrer: &Digest) -> Result<bool> {
        remove_record(&self.referrer(subject, referrer))
    }

    /// The digests of all manifests whose subject is `subject`, sorted.
    pub(crate) fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        let names = list(&self.by_digest(REFERRERS, subject))?;
        let mut digests: Vec<Digest> =
            names.iter().filter_map(|name| name.replacen('-', ":", 1).parse().ok()).collect();
        digests.sort();
        Ok(digests)
    }

    /// The descriptor that a list of referrers shows for `referrer`.
    pub(crate) fn read_referrer(&self, subject: &Digest, referrer: &Digest) -> Result<Option<Descriptor>> {
        let path = self.referrer(subject, referrer);
        let Some(bytes) = atomic::read(&path)? else { return Ok(None) };
        let descriptor = serde_json::from_slice(&bytes);
        descriptor.map(Some).map_err(|_| Error::Record { path, expected: "a descriptor" })
    }

    /// Every digest that the repository has, blobs and manifests.
    pub(crate) fn digests(&self) -> Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for kind in [BLOBS, MANIFESTS] {
            for algorithm in list(&self.folder.join(kind))? {
                let names = list(&self.folder.join(kind).join(&algorithm))?;
                digests.extend(
                    names.iter().filter_map(|hex| format!("{algorithm}:{hex}").parse::<Digest>().ok()),
                );
            }
        }
        Ok(digests)
    }

    /// Removes the temporary files of records that a crash left; needs that nobody writes.
    pub(crate) fn sweep(&self) -> Result<()> {
        let mut folders = [MANIFESTS, TAGS, REFERRERS].map(|kind| self.folder.join(kind)).to_vec();
        while let Some(folder) = folders.pop() {
            for name in list(&folder)? {
                let path = folder.join(&name);
                if name.starts_with('.') && name.ends_with(".tmp") {
                    atomic::remove_file(&path)?;
                } else if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        Ok(())
    }

    fn by_digest(&self, kind: &str, digest: &Digest) -> PathBuf {
        self.folder.join(kind).join(digest.algorithm()).join(digest.hex())
    }

    fn referrer(&self, subject: &Digest, referrer: &Digest) -> PathBuf {
        let name = format!("{}-{}", referrer.algorithm(), referrer.hex());
        self.by_digest(REFERRERS, subject).join(name)
    }
}

/// The names of all folders below `repositories` that may be repositories, sorted; a parent such as `a` of `a/b` is
/// among them even when nothing was pushed to it.
pub(crate) fn all_names(repositories: &Path) -> Result<Vec<RepositoryName>> {
    let mut names = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(prefix) = folders.pop() {
        for component in list(&repositories.join(&prefix))? {
            let path = if prefix.is_empty() { component } else { format!("{prefix}/{component}") };
            if let Some(name) = RepositoryName::parse(&path) {
                names.push(name);
                folders.push(path);
            }
        }
    }
    names.sort();
    Ok(names)
}

/// The names in a folder; none when it does not exist.
fn list(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.during("list", folder)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.during("list", folder)?.file_name().into_string());
    }
    Ok(names)
}

fn read_text(path: &Path, expected: &'static str) -> Result<Option<String>> {
    let Some(bytes) = atomic::read(path)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|_| Error::Record { path: path.to_owned(), expected })
}

fn write_record(path: &Path, bytes: &[u8]) -> Result<()> {
    create_durable_dir(parent(path))?;
    Ok(atomic::write(path, bytes, 0o600, atomic::Durability::Durable)?)
}

fn remove_record(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        result => result.during("remove", path)?,
    }
    atomic::sync_parent(path)?;
    Ok(true)
}

/// Makes a folder and its missing parents, and their names durable: a record in a folder that a loss of power takes
/// is no record.
fn create_durable_dir(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    create_durable_dir(parent(folder))?;
    atomic::create_private_dir(folder)?;
    Ok(atomic::sync_parent(folder)?)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
