//! The endpoints of manifests (distribution-spec, "Pulling manifests", "Pushing Manifests", "Deleting tags", "Deleting
//! Manifests").

use carrack_oci::{Digest, Document, MAX_DOCUMENT_BYTES};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, LOCATION};
use hyper::{Method, Request, Response, StatusCode};
use serde::Deserialize;

use crate::body::Body;
use crate::cache::StoredManifest;
use crate::failure::{Answer, Failure};
use crate::name::{ManifestKey, RepositoryName, Tag};
use crate::query::Query;
use crate::service::{Service, blocking, etag, matches_etag, text};
use crate::store::NewManifest;
use crate::{receive, referrers, wire};

/// How many tags one push by digest may set; the specification asks for ten.
const MAX_TAGS: usize = 32;

impl Service {
    /// GET, HEAD, PUT and DELETE of `/v2/<name>/manifests/<tag-or-digest>`.
    pub(crate) async fn manifest(
        &self,
        name: RepositoryName,
        key: &str,
        request: &mut Request<Incoming>,
    ) -> Answer<Response<Body>> {
        let parsed = ManifestKey::parse(key);
        let unknown = || Failure::ManifestUnknown { key: key.chars().take(200).collect() };
        match *request.method() {
            Method::GET | Method::HEAD => self.get_manifest(name, parsed.ok_or_else(unknown)?, request).await,
            Method::PUT => {
                let reason = || "expected a tag or a digest as its name".to_owned();
                let key = parsed.ok_or_else(|| Failure::ManifestInvalid { reason: reason() })?;
                self.put_manifest(name, key, request).await
            }
            Method::DELETE => {
                let (store, key) = (self.store.clone(), parsed.ok_or_else(unknown)?);
                blocking(move || match key {
                    ManifestKey::Tag(tag) => store.delete_tag(&name, &tag),
                    ManifestKey::Digest(digest) => store.delete_manifest(&name, &digest),
                })
                .await?;
                Ok(wire::respond(StatusCode::ACCEPTED, Body::empty()))
            }
            _ => Err(Failure::Method { allowed: "GET, HEAD, PUT, DELETE" }),
        }
    }

    /// The manifest as it was pushed, whatever `Accept` says: a registry that converts manifests changes digests.
    async fn get_manifest(
        &self,
        name: RepositoryName,
        key: ManifestKey,
        request: &Request<Incoming>,
    ) -> Answer<Response<Body>> {
        let manifest = match self.store.cached(&name, &key) {
            Some(manifest) => manifest,
            None => {
                let store = self.store.clone();
                blocking(move || store.manifest(&name, &key)).await?
            }
        };
        if matches_etag(request.headers(), &manifest.digest) {
            return Ok(describe(StatusCode::NOT_MODIFIED, &manifest, Body::empty()));
        }
        if request.method() == Method::HEAD {
            let mut response = describe(StatusCode::OK, &manifest, Body::empty());
            wire::set(&mut response, CONTENT_LENGTH, &manifest.bytes.len().to_string());
            return Ok(response);
        }
        Ok(describe(StatusCode::OK, &manifest, Body::whole(manifest.bytes.clone())))
    }

    async fn put_manifest(
        &self,
        name: RepositoryName,
        key: ManifestKey,
        request: &mut Request<Incoming>,
    ) -> Answer<Response<Body>> {
        let asked_tags = asked_tags(request, &key)?;
        // Each body may take 4 MiB of memory, so only some are received at once; and none may keep its place for long.
        let _place = self.documents.acquire().await.map_err(|_| closing())?;
        let received = tokio::time::timeout(receive::STALL, read_document(request)).await;
        let bytes = received.map_err(|_| Failure::Stalled { seconds: receive::STALL.as_secs() })??;
        let manifest = check(&key, request.headers(), bytes, asked_tags)?;
        let mut response = wire::respond(StatusCode::CREATED, Body::empty());
        wire::set(&mut response, LOCATION, &format!("/v2/{name}/manifests/{}", manifest.digest));
        wire::set(&mut response, wire::CONTENT_DIGEST, manifest.digest.as_str());
        if let Some(subject) = referrers::subject_of(&manifest.document) {
            wire::set(&mut response, wire::SUBJECT, subject.as_str());
        }
        if matches!(key, ManifestKey::Digest(_)) {
            for tag in &manifest.tags {
                let value = HeaderValue::from_str(tag.as_str()).expect("a tag is ASCII");
                response.headers_mut().append(wire::TAG, value);
            }
        }
        let store = self.store.clone();
        blocking(move || store.put_manifest(&name, &manifest)).await?;
        Ok(response)
    }
}

fn closing() -> Failure {
    Failure::TooManyRequests { reason: "the registry is closing", retry_seconds: 5 }
}

/// The tag that is pushed to, or those that a push by digest asks for.
fn asked_tags(request: &Request<Incoming>, key: &ManifestKey) -> Answer<Vec<Tag>> {
    let query = Query::parse(request.uri().query());
    let asked = match key {
        ManifestKey::Tag(tag) => return Ok(vec![tag.clone()]),
        ManifestKey::Digest(_) => query.all("tag").map(Tag::parse).collect::<Option<Vec<_>>>(),
    };
    let invalid = || Failure::ManifestInvalid { reason: format!("expected at most {MAX_TAGS} valid tags") };
    asked.filter(|tags| tags.len() <= MAX_TAGS).ok_or_else(invalid)
}

/// Receives a manifest, refusing one that is too large before or while it comes.
async fn read_document(request: &mut Request<Incoming>) -> Answer<Bytes> {
    let too_large = || Failure::ManifestTooLarge { limit: MAX_DOCUMENT_BYTES };
    let announced = text(request.headers(), &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_DOCUMENT_BYTES) {
        return Err(too_large());
    }
    let mut document = Vec::new();
    while let Some(bytes) = receive::next(request.body_mut()).await? {
        if (document.len() + bytes.len()) as u64 > MAX_DOCUMENT_BYTES {
            return Err(too_large());
        }
        document.extend_from_slice(&bytes);
    }
    Ok(document.into())
}

/// Checks that the bytes are a manifest of the announced type, with the digest under which they are pushed.
fn check(key: &ManifestKey, headers: &HeaderMap, bytes: Bytes, tags: Vec<Tag>) -> Answer<NewManifest> {
    let digest = match key {
        ManifestKey::Tag(_) => Digest::of(&bytes),
        ManifestKey::Digest(expected) => {
            let mut hasher = expected.hasher();
            hasher.update(&bytes);
            let got = hasher.finish();
            if got != *expected {
                let size_bytes = bytes.len() as u64;
                return Err(Failure::DigestMismatch { expected: expected.clone(), got, size_bytes });
            }
            got
        }
    };
    let announced = text(headers, &CONTENT_TYPE).map(str::to_owned).or_else(|| own_media_type(&bytes));
    let announced = announced.unwrap_or_default();
    let media_type = announced.split(';').next().unwrap_or_default().trim().to_owned();
    let document = Document::parse(&media_type, &bytes)?;
    Ok(NewManifest { document, media_type, bytes, digest, tags })
}

/// What a manifest says of itself, for clients that send no `Content-Type`.
fn own_media_type(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: String,
    }
    serde_json::from_slice::<Typed>(bytes).ok().map(|typed| typed.media_type)
}

fn describe(status: StatusCode, manifest: &StoredManifest, body: Body) -> Response<Body> {
    let mut response = wire::respond(status, body);
    wire::set(&mut response, CONTENT_TYPE, &manifest.media_type);
    wire::set(&mut response, ETAG, &etag(&manifest.digest));
    wire::set(&mut response, wire::CONTENT_DIGEST, manifest.digest.as_str());
    response
}
