//! References: what a user names, `registry/repository[:tag][@digest]`.
//!
//! Follows Docker's normalisation (the grammar of distribution's `reference` package and OCI distribution-spec,
//! "Pulling manifests"): `app` is `docker.io/library/app`, a first component is a registry when it has a dot, a
//! colon, or is `localhost`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Digest;

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_NAMESPACE: &str = "library/";
const MAX_NAME_BYTES: usize = 255;
const MAX_TAG_BYTES: usize = 128;

/// Why a text is not a reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid reference {text:?}: {reason}")]
pub struct ReferenceError {
    /// What was given, cut to a printable length.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A registry and a repository in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository {
    registry: String,
    path: String,
}

impl Repository {
    /// `host[:port]` of the registry; `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's name within its registry, as in `/v2/<path>/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether `path` is a repository name (distribution-spec: lower-case components joined by `/`).
    pub fn is_valid_path(path: &str) -> bool {
        path.len() <= MAX_NAME_BYTES && path.split('/').all(is_component)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.path)
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    /// Reads a reference that has neither tag nor digest.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        match text.parse()? {
            Reference { repository, tag: None, digest: None } => Ok(repository),
            _ => Err(ReferenceError {
                text: text.to_owned(),
                reason: "expected a repository without tag and digest",
            }),
        }
    }
}

impl TryFrom<String> for Repository {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Repository> for String {
    fn from(repository: Repository) -> Self {
        repository.to_string()
    }
}

/// A full reference: a repository with a tag, a digest, both or neither.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    repository: Repository,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The repository that is named.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag that is named.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest digest that is named.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What stands behind `/manifests/` for this reference: the digest where there is one, else the tag.
    pub fn manifest_key(&self) -> &str {
        match &self.digest {
            Some(digest) => digest.as_str(),
            None => self.tag.as_deref().unwrap_or("latest"),
        }
    }

    /// The same reference with the tag `latest` where it has neither tag nor digest.
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The same repository at `digest`, without a tag.
    pub fn at(&self, digest: Digest) -> Self {
        Self { repository: self.repository.clone(), tag: None, digest: Some(digest) }
    }

    /// The same tag and digest in another repository.
    pub fn in_repository(&self, repository: Repository) -> Self {
        Self { repository, tag: self.tag.clone(), digest: self.digest.clone() }
    }

    /// The repository of `text` as it is written there, when it names no registry: `team/app` of `team/app:1`, nothing
    /// of `host.example/app`.
    pub fn short_name(text: &str) -> Option<&str> {
        let name = text.split('@').next().unwrap_or_default();
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        let name = name[last..].find(':').map_or(name, |colon| &name[..last + colon]);
        let first = name.split_once('/').map(|(first, _)| first);
        (!first.is_some_and(names_registry)).then_some(name)
    }

    /// The short form that users see: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_repository();
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
        text
    }

    /// The short form of the repository alone; the full one where the short one would mean another repository.
    pub fn familiar_repository(&self) -> String {
        let Repository { registry, path } = &self.repository;
        let short = path.strip_prefix(DEFAULT_NAMESPACE).unwrap_or(path);
        let reads_back =
            |text: &&str| text.parse::<Self>().is_ok_and(|read| read.repository == self.repository);
        match registry.as_str() {
            DEFAULT_REGISTRY => {
                let text = [short, path].into_iter().find(reads_back);
                text.map_or_else(|| self.repository.to_string(), str::to_owned)
            }
            _ => self.repository.to_string(),
        }
    }

    /// Whether `tag` is a tag (distribution-spec: a word character, then up to 127 of `[\w.-]`).
    pub fn is_valid_tag(tag: &str) -> bool {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let bytes = tag.as_bytes();
        bytes.len() <= MAX_TAG_BYTES
            && bytes.first().is_some_and(|byte| word(*byte))
            && bytes.iter().all(|byte| word(*byte) || b".-".contains(byte))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let refuse = |reason| ReferenceError { text: text.chars().take(300).collect(), reason };
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => (
                rest,
                Some(
                    digest
                        .parse()
                        .map_err(|_| refuse("expected a digest, sha256:<64 hex digits>, after @"))?,
                ),
            ),
        };
        let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_start..].find(':') {
            None => (rest, None),
            Some(colon) => (&rest[..name_start + colon], Some(&rest[name_start + colon + 1..])),
        };
        if tag.is_some_and(|tag| !Self::is_valid_tag(tag)) {
            return Err(refuse("a tag has up to 128 of A-Z a-z 0-9 _ . - and does not begin with . or -"));
        }
        let repository = split_registry(name).map_err(refuse)?;
        Ok(Self { repository, tag: tag.map(str::to_owned), digest })
    }
}

fn split_registry(name: &str) -> Result<Repository, &'static str> {
    if name.is_empty() {
        return Err("the repository is missing");
    }
    if name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("64 hex digits are an ID, not a name");
    }
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if names_registry(first) => (first, rest.to_owned()),
        _ => (DEFAULT_REGISTRY, name.to_owned()),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    if !is_registry(registry) {
        return Err("the registry is not host[:port]");
    }
    let path = if registry == DEFAULT_REGISTRY && !path.contains('/') {
        format!("{DEFAULT_NAMESPACE}{path}")
    } else {
        path
    };
    if path.len() + registry.len() + 1 > MAX_NAME_BYTES {
        return Err("the name is longer than 255 bytes");
    }
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("a repository is written in lower case");
    }
    if !Repository::is_valid_path(&path) {
        return Err(
            "a repository has components of a-z 0-9, separated inside by . _ __ or -, and joined by /",
        );
    }
    Ok(Repository { registry: registry.to_owned(), path })
}

/// Whether the first component of a name is a registry, and no part of the path.
fn names_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

fn is_registry(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let port_is_valid = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<std::net::Ipv6Addr>().is_ok() && port_is_valid;
    }
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    let separators = bytes.split(|byte| alphanumeric(*byte)).filter(|separator| !separator.is_empty());
    alphanumeric(*first)
        && alphanumeric(*last)
        && separators.into_iter().all(|separator| {
            matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
        })
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(formatter)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(formatter, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn normalises_as_docker_does() {
        for (text, full, familiar) in [
            ("app", "docker.io/library/app:latest", "app:latest"),
            ("app:1.2", "docker.io/library/app:1.2", "app:1.2"),
            ("team/app", "docker.io/team/app:latest", "team/app:latest"),
            ("index.docker.io/app", "docker.io/library/app:latest", "app:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
            ("127.0.0.1:5000/a/b:t", "127.0.0.1:5000/a/b:t", "127.0.0.1:5000/a/b:t"),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
            (
                "host.example/a__b/c--d.e_f",
                "host.example/a__b/c--d.e_f:latest",
                "host.example/a__b/c--d.e_f:latest",
            ),
        ] {
            let reference = parse(text).or_latest();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(parse(full), reference, "the full form means the same");
        }
    }

    #[test]
    fn keeps_tag_and_digest() {
        let digest = Digest::of(b"x");
        let reference = parse(&format!("app:1@{digest}"));
        assert_eq!((reference.tag(), reference.digest()), (Some("1"), Some(&digest)));
        assert_eq!(reference.manifest_key(), digest.as_str());
        assert_eq!(reference.at(digest.clone()).to_string(), format!("docker.io/library/app@{digest}"));
    }

    #[test]
    fn tells_short_names() {
        let digest = Digest::of(b"x");
        for (text, short) in [
            ("app", Some("app")),
            ("app:1", Some("app")),
            ("team/app:1", Some("team/app")),
            (&format!("team/app:1@{digest}"), Some("team/app")),
            ("localhost/app", None),
            ("localhost:5000/app:1", None),
            ("host.example/app", None),
            ("docker.io/app", None),
        ] {
            assert_eq!(Reference::short_name(text), short, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_reference() {
        let long = "a".repeat(256);
        for text in [
            "",
            ":tag",
            "App",
            "a//b",
            "a/",
            "/a",
            "../a",
            "a/../b",
            "-a",
            "a-",
            "a___b",
            "a..b",
            "a:",
            "a:-t",
            "a@sha256:12",
            "host.example:99999/a",
            "host.example:/a",
            "a b",
            "a\n",
            &"f".repeat(64),
            &long,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?} was accepted");
        }
    }
}
