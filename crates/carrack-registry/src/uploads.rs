//! The endpoints of uploads (distribution-spec, "Pushing blobs", "Cancel a blob upload", "Mounting a blob from another
//! repository").

use carrack_oci::Digest;
use hyper::body::Incoming;
use hyper::header::{CONTENT_RANGE, HeaderMap, LOCATION, RANGE};
use hyper::{Method, Request, Response, StatusCode};

use crate::body::Body;
use crate::failure::{Answer, Failure};
use crate::name::RepositoryName;
use crate::query::Query;
use crate::service::{Service, blocking};
use crate::{range, wire};

impl Service {
    /// POST to `/v2/<name>/blobs/uploads/`: mounts a blob, takes one whole, or begins an upload.
    pub(crate) async fn start_upload(
        &self,
        name: RepositoryName,
        request: &mut Request<Incoming>,
    ) -> Answer<Response<Body>> {
        let query = Query::parse(request.uri().query());
        if let Some(algorithm) = query.get("digest-algorithm")
            && !matches!(algorithm, "sha256" | "sha512")
        {
            return Err(Failure::DigestInvalid {
                reason: "expected the algorithm sha256 or sha512".to_owned(),
            });
        }
        if let Some(digest) = query.get("mount") {
            let digest = parse_digest(Some(digest))?;
            if self.mount(&name, &digest, query.get("from")).await? {
                return Ok(created(&name, &digest));
            }
        } else if query.get("digest").is_some() {
            let digest = parse_digest(query.get("digest"))?;
            let mut turn = self.receive(request.body_mut(), self.sessions.transient()?, None).await?;
            let (store, repository) = (self.store.clone(), name.clone());
            let committed =
                blocking(move || store.commit_upload(&repository, &mut turn, &digest).map(|()| digest));
            return Ok(created(&name, &committed.await?));
        }
        let (sessions, repository) = (self.sessions.clone(), name.clone());
        let id = blocking(move || sessions.begin(&repository)).await?;
        Ok(progress(StatusCode::ACCEPTED, &name, &id, 0))
    }

    /// Mounts a blob; a mount without a source, or of what the source lacks, is answered with an upload.
    async fn mount(&self, name: &RepositoryName, digest: &Digest, from: Option<&str>) -> Answer<bool> {
        let Some(from) = from else { return Ok(false) };
        let from =
            RepositoryName::parse(from).ok_or_else(|| Failure::NameInvalid { name: from.to_owned() })?;
        let (store, name, digest) = (self.store.clone(), name.clone(), digest.clone());
        blocking(move || store.mount_blob(&name, &digest, &from)).await
    }

    /// GET, PATCH, PUT and DELETE of an upload's location.
    pub(crate) async fn upload(
        &self,
        name: RepositoryName,
        id: String,
        request: &mut Request<Incoming>,
    ) -> Answer<Response<Body>> {
        match *request.method() {
            Method::GET => {
                let offset = self.sessions.turn(&name, &id).await?.offset();
                Ok(progress(StatusCode::NO_CONTENT, &name, &id, offset))
            }
            Method::PATCH => {
                let offset = self.append(&name, &id, request).await?.offset();
                Ok(progress(StatusCode::ACCEPTED, &name, &id, offset))
            }
            Method::PUT => self.close_upload(name, id, request).await,
            Method::DELETE => {
                let mut turn = self.sessions.turn(&name, &id).await?;
                blocking(move || Ok(turn.close()?)).await?;
                self.sessions.forget(&id);
                Ok(wire::respond(StatusCode::NO_CONTENT, Body::empty()))
            }
            _ => Err(Failure::Method { allowed: "GET, PATCH, PUT, DELETE" }),
        }
    }

    /// Takes the body of a request as the next bytes of an upload. A client that names no range (Docker's) means
    /// "here is more"; one that does must begin where the bytes so far end.
    async fn append(
        &self,
        name: &RepositoryName,
        id: &str,
        request: &mut Request<Incoming>,
    ) -> Answer<crate::session::Turn> {
        let chunk = chunk_range(request.headers())?;
        let turn = self.sessions.turn(name, id).await?;
        if let Some((got, _)) = chunk
            && got != turn.offset()
        {
            return Err(Failure::UploadOutOfOrder {
                location: location(name, id),
                expected: turn.offset(),
                got,
            });
        }
        self.receive(request.body_mut(), turn, chunk.map(|(_, length)| length)).await
    }

    /// Takes the last bytes, checks the digest of all, and names the blob. Bytes that turn out wrong are thrown away.
    async fn close_upload(
        &self,
        name: RepositoryName,
        id: String,
        request: &mut Request<Incoming>,
    ) -> Answer<Response<Body>> {
        let digest = parse_digest(Query::parse(request.uri().query()).get("digest"))?;
        let mut turn = self.append(&name, &id, request).await?;
        let (store, sessions) = (self.store.clone(), self.sessions.clone());
        blocking(move || {
            let committed = store.commit_upload(&name, &mut turn, &digest);
            if matches!(committed, Ok(()) | Err(Failure::DigestMismatch { .. })) {
                turn.close()?;
                sessions.forget(&id);
            }
            committed.map(|()| created(&name, &digest))
        })
        .await
    }
}

fn parse_digest(text: Option<&str>) -> Answer<Digest> {
    let invalid = |reason: String| Failure::DigestInvalid { reason };
    let text = text.ok_or_else(|| invalid("expected the parameter digest".to_owned()))?;
    text.parse().map_err(|error: carrack_oci::DigestError| invalid(error.to_string()))
}

fn chunk_range(headers: &HeaderMap) -> Answer<Option<(u64, u64)>> {
    let Some(value) = headers.get(CONTENT_RANGE) else { return Ok(None) };
    let chunk = value.to_str().ok().and_then(range::parse_chunk);
    let reason = || "expected Content-Range: <first>-<last>".to_owned();
    chunk.map(Some).ok_or_else(|| Failure::UploadInvalid { reason: reason() })
}

fn location(name: &RepositoryName, id: &str) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// Where an upload stands.
fn progress(status: StatusCode, name: &RepositoryName, id: &str, offset: u64) -> Response<Body> {
    let mut response = wire::respond(status, Body::empty());
    wire::set(&mut response, LOCATION, &location(name, id));
    wire::set(&mut response, RANGE, &wire::upload_range(offset));
    wire::set(&mut response, wire::UPLOAD_ID, id);
    response
}

/// The repository has the blob.
fn created(name: &RepositoryName, digest: &Digest) -> Response<Body> {
    let mut response = wire::respond(StatusCode::CREATED, Body::empty());
    wire::set(&mut response, LOCATION, &format!("/v2/{name}/blobs/{digest}"));
    wire::set(&mut response, wire::CONTENT_DIGEST, digest.as_str());
    response
}
