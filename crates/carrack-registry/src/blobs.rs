//! The endpoints of blobs (distribution-spec, "Pulling blobs", "Checking if content exists in the registry", "Deleting
//! Blobs").

use std::fs::File;
use std::os::unix::fs::FileExt;

use carrack_oci::Digest;
use carrack_sys::IoContext;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, IF_RANGE,
};
use hyper::{Method, Request, Response, StatusCode};

use crate::body::{Body, FilePart};
use crate::failure::{Answer, Failure};
use crate::name::RepositoryName;
use crate::range::{self, Selection};
use crate::service::{Service, blocking, etag, matches_etag, text};
use crate::wire;

/// A blob up to this size is read at once, where it is opened.
const SMALL_BYTES: u64 = 64 << 10;

impl Service {
    /// GET, HEAD and DELETE of `/v2/<name>/blobs/<digest>`.
    pub(crate) async fn blob(
        &self,
        name: RepositoryName,
        digest: &str,
        request: &Request<Incoming>,
    ) -> Answer<Response<Body>> {
        let digest: Digest = digest.parse().map_err(|error: carrack_oci::DigestError| {
            Failure::DigestInvalid { reason: error.to_string() }
        })?;
        let store = self.store.clone();
        match *request.method() {
            Method::GET => self.get_blob(name, digest, request.headers()).await,
            Method::HEAD => {
                blocking(move || {
                    let size_bytes = store.blob_size(&name, &digest)?;
                    let mut response = describe(StatusCode::OK, &digest, Body::empty());
                    wire::set(&mut response, CONTENT_LENGTH, &size_bytes.to_string());
                    Ok(response)
                })
                .await
            }
            Method::DELETE => {
                blocking(move || store.delete_blob(&name, &digest)).await?;
                Ok(wire::respond(StatusCode::ACCEPTED, Body::empty()))
            }
            _ => Err(Failure::Method { allowed: "GET, HEAD, DELETE" }),
        }
    }

    async fn get_blob(
        &self,
        name: RepositoryName,
        digest: Digest,
        headers: &HeaderMap,
    ) -> Answer<Response<Body>> {
        // A blob never changes, so `If-Range` can only ask for another blob's rest: RFC 9110, section 13.1.5.
        let is_same = headers.get(IF_RANGE).is_none_or(|value| value.as_bytes() == etag(&digest).as_bytes());
        let asked = text(headers, &hyper::header::RANGE).filter(|_| is_same).map(str::to_owned);
        if matches_etag(headers, &digest) {
            let (store, wanted) = (self.store.clone(), digest.clone());
            blocking(move || store.blob_size(&name, &wanted)).await?;
            return Ok(describe(StatusCode::NOT_MODIFIED, &digest, Body::empty()));
        }
        let (store, buffers) = (self.store.clone(), self.buffers.clone());
        blocking(move || {
            let file = store.open_blob(&name, &digest)?;
            let size_bytes = file.metadata().during("look up", store.content.blob_path(&digest))?.len();
            let (status, start, length) = match range::select(asked.as_deref(), size_bytes) {
                Selection::Whole => (StatusCode::OK, 0, size_bytes),
                Selection::Part { start, length } => (StatusCode::PARTIAL_CONTENT, start, length),
                Selection::Unsatisfiable => return Err(Failure::RangeUnsatisfiable { size_bytes }),
            };
            let body = match length {
                0..=SMALL_BYTES => Body::whole(
                    read_part(&file, start, length).during("read", store.content.blob_path(&digest))?,
                ),
                _ => Body::File(FilePart::new(file, start, length, buffers)),
            };
            let mut response = describe(status, &digest, body);
            if status == StatusCode::PARTIAL_CONTENT {
                let range = format!("bytes {start}-{}/{size_bytes}", start + length - 1);
                wire::set(&mut response, CONTENT_RANGE, &range);
            }
            Ok(response)
        })
        .await
    }
}

fn read_part(file: &File, start: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

fn describe(status: StatusCode, digest: &Digest, body: Body) -> Response<Body> {
    let mut response = wire::respond(status, body);
    wire::set(&mut response, CONTENT_TYPE, "application/octet-stream");
    wire::set(&mut response, ACCEPT_RANGES, "bytes");
    wire::set(&mut response, CACHE_CONTROL, "max-age=31536000");
    wire::set(&mut response, ETAG, &etag(digest));
    wire::set(&mut response, wire::CONTENT_DIGEST, digest.as_str());
    response
}
