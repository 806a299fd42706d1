//! Manifests and indexes (distribution-spec, "Pulling manifests", "Pushing manifests").
//!
//! Invariant: bytes that are returned have the digest that they were asked by or announced under.

use carrack_oci::{Descriptor, Digest, MAX_DOCUMENT_BYTES, Reference, Repository, media_type};
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};

use crate::response::Response;
use crate::session::{Scope, Session};
use crate::transport::Payload;
use crate::{Client, Error, Exchange, Result};

const DIGEST_HEADER: &str = "docker-content-digest";

/// What a registry serves under a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Media type as announced, digest and size of the bytes.
    pub descriptor: Descriptor,
    /// The exact bytes of the manifest or index. Their digest is verified, their content is not yet parsed.
    pub bytes: Vec<u8>,
}

impl Client {
    /// Resolves `reference` (`latest` where it has neither tag nor digest) to a manifest or an index.
    pub fn resolve(&self, reference: &Reference) -> Result<Fetched> {
        let repository = reference.repository();
        let session = self.session(repository, Scope::pull(repository))?;
        self.retrying(|| session.get_manifest(repository, reference.manifest_key(), reference.digest()))
    }

    /// Fetches the manifest or index that `descriptor` names.
    pub fn manifest(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let session = self.session(repository, Scope::pull(repository))?;
        let fetched = self.retrying(|| {
            session.get_manifest(repository, descriptor.digest.as_str(), Some(&descriptor.digest))
        })?;
        if fetched.descriptor.size != descriptor.size {
            let url = session.registry.url(&manifest_path(repository, descriptor.digest.as_str()))?;
            let reason = format!(
                "expected {} bytes by the descriptor, got {}",
                descriptor.size, fetched.descriptor.size
            );
            return Err(Error::Protocol { exchange: Exchange::new("GET", &url), reason });
        }
        Ok(fetched.bytes)
    }

    /// Stores `bytes` under `key`, a tag or their own digest. What they refer to must be there already.
    pub fn put_manifest(
        &self,
        repository: &Repository,
        key: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest> {
        let digest = match key.parse::<Digest>() {
            Ok(digest) => digest_by(&digest, bytes),
            Err(_) => Digest::of(bytes),
        };
        if key != digest.as_str() && !Reference::is_valid_tag(key) {
            let reason = format!("{key:?} is neither a tag nor the digest of the manifest");
            return Err(Error::Refused { reason });
        }
        let session = self.session(repository, Scope::push(repository))?;
        let mut request = session
            .request(Method::PUT, &manifest_path(repository, key))?
            .header(CONTENT_TYPE, media_type)?;
        request.payload = Payload::Bytes(bytes);
        let response = self.retrying(|| session.send(&request)?.expect(&[201, 200, 202]))?;
        check_digest_header(&response, bytes)?;
        Ok(digest)
    }
}

impl Session<'_> {
    fn get_manifest(&self, repository: &Repository, key: &str, expected: Option<&Digest>) -> Result<Fetched> {
        let request = self
            .request(Method::GET, &manifest_path(repository, key))?
            .header(ACCEPT, &media_type::MANIFESTS.join(", "))?;
        let response = self.send(&request)?.expect(&[200])?;
        let announced = announced_digest(&response)?;
        let content_type = response.header(CONTENT_TYPE.as_str()).unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_owned();
        let exchange = response.exchange.clone();
        let bytes = response.read_all(MAX_DOCUMENT_BYTES)?;
        for expected in expected.into_iter().chain(&announced) {
            check_digest(&exchange, expected, &bytes)?;
        }
        // The digest that was asked for stays the name of the manifest, of whichever algorithm it is.
        let digest = expected.cloned().unwrap_or_else(|| Digest::of(&bytes));
        Ok(Fetched { descriptor: Descriptor::new(&media_type, digest, bytes.len() as u64), bytes })
    }
}

fn manifest_path(repository: &Repository, key: &str) -> String {
    format!("{}/manifests/{key}", repository.path())
}

fn announced_digest(response: &Response) -> Result<Option<Digest>> {
    let Some(text) = response.header(DIGEST_HEADER) else { return Ok(None) };
    let refuse =
        |error: carrack_oci::DigestError| response.protocol_error(format!("{DIGEST_HEADER}: {error}"));
    text.parse().map(Some).map_err(refuse)
}

/// Refuses an answer to a write that announces another digest than that of what was written.
pub(crate) fn check_digest_header(response: &Response, bytes: &[u8]) -> Result<()> {
    match announced_digest(response)? {
        Some(announced) => check_digest(&response.exchange, &announced, bytes),
        None => Ok(()),
    }
}

/// The same where only the digest of what was written is at hand: one of another algorithm says nothing.
pub(crate) fn check_announced(response: &Response, expected: &Digest) -> Result<()> {
    match announced_digest(response)? {
        Some(got) if got.algorithm() == expected.algorithm() && got != *expected => {
            Err(Error::DigestMismatch {
                exchange: response.exchange.clone(),
                expected: expected.clone(),
                got,
            })
        }
        _ => Ok(()),
    }
}

fn check_digest(exchange: &Exchange, expected: &Digest, bytes: &[u8]) -> Result<()> {
    let got = digest_by(expected, bytes);
    if got == *expected {
        return Ok(());
    }
    Err(Error::DigestMismatch { exchange: exchange.clone(), expected: expected.clone(), got })
}

/// The digest of `bytes` by the algorithm of `like`.
fn digest_by(like: &Digest, bytes: &[u8]) -> Digest {
    let mut hasher = like.hasher();
    hasher.update(bytes);
    hasher.finish()
}
