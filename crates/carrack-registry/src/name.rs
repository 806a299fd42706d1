//! The names that become paths: repositories, tags, and what stands behind `/manifests/`.
//!
//! Invariant: a value of these types matches the grammar of distribution-spec, "Pulling manifests", so it has no
//! `..`, no leading `_` or `.` in a component, and can be joined to a folder.

use std::fmt;

use carrack_oci::{Digest, Reference, Repository};

/// A repository's name, as in `/v2/<name>/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RepositoryName(String);

impl RepositoryName {
    /// `None` when `text` is not a repository name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Repository::is_valid_path(text).then(|| Self(text.to_owned()))
    }

    /// The name's text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A mutable name of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tag(String);

impl Tag {
    /// `None` when `text` is not a tag.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Reference::is_valid_tag(text).then(|| Self(text.to_owned()))
    }

    /// The tag's text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// `<tag-or-digest>` of the manifest endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ManifestKey {
    /// The manifest that the tag names now.
    Tag(Tag),
    /// One manifest for ever.
    Digest(Digest),
}

impl ManifestKey {
    /// A tag has no colon, a digest has one; `None` when `text` is neither.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.contains(':') {
            true => text.parse().ok().map(Self::Digest),
            false => Tag::parse(text).map(Self::Tag),
        }
    }

    /// The text as it stood in the path.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Tag(tag) => tag.as_str(),
            Self::Digest(digest) => digest.as_str(),
        }
    }
}
