//! What a client is told when its request fails (distribution-spec, "Error Codes").
//!
//! Invariant: the one table in [`Failure::wire`] maps every failure to its status and code. A failure of the server's
//! own says nothing of paths or causes to the client; those go to the log.

use carrack_oci::{Digest, DocumentError};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::Error;
use crate::body::Body;
use crate::wire;

/// The result of answering a request.
pub(crate) type Answer<T, E = Failure> = Result<T, E>;

/// Why a request is refused or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no such endpoint")]
    NoEndpoint,
    #[error("the method is not supported here: expected one of {allowed}")]
    Method { allowed: &'static str },
    #[error("the address is longer than {limit} bytes")]
    AddressTooLong { limit: usize },
    #[error("invalid repository name {name:?}")]
    NameInvalid { name: String },
    #[error("repository {name} is unknown")]
    NameUnknown { name: String },
    #[error("invalid number of results {text:?}")]
    PageInvalid { text: String },
    #[error("blob {digest} is unknown to the repository")]
    BlobUnknown { digest: Digest },
    #[error("invalid digest: {reason}")]
    DigestInvalid { reason: String },
    #[error("digest mismatch: expected {expected}, got {got} after {size_bytes} bytes")]
    DigestMismatch { expected: Digest, got: Digest, size_bytes: u64 },
    #[error("size mismatch: expected {expected} bytes, got {got}")]
    SizeInvalid { expected: u64, got: u64 },
    #[error("the range begins behind the end of the blob, which has {size_bytes} bytes")]
    RangeUnsatisfiable { size_bytes: u64 },
    #[error("upload {id:?} is unknown to the repository; it may have expired")]
    UploadUnknown { id: String },
    #[error("invalid upload: {reason}")]
    UploadInvalid { reason: String },
    #[error("chunk out of order: expected it to begin at byte {expected}, got {got}")]
    UploadOutOfOrder { location: String, expected: u64, got: u64 },
    #[error("manifest {key:?} is unknown to the repository")]
    ManifestUnknown { key: String },
    #[error("{reason}")]
    ManifestInvalid { reason: String },
    #[error("the manifest is larger than {limit} bytes")]
    ManifestTooLarge { limit: u64 },
    #[error("the manifest refers to what the repository does not have")]
    ManifestBlobUnknown { missing: Vec<Digest> },
    #[error("authentication required")]
    Unauthorized,
    #[error("too many requests: {reason}")]
    TooManyRequests { reason: &'static str, retry_seconds: u64 },
    #[error("the request stopped for {seconds} seconds")]
    Stalled { seconds: u64 },
    #[error("the registry failed")]
    Storage(#[source] Error),
}

impl Failure {
    /// The one table from failures to the wire.
    fn wire(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoEndpoint => (StatusCode::NOT_FOUND, "UNSUPPORTED"),
            Self::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            Self::AddressTooLong { .. } => (StatusCode::URI_TOO_LONG, "UNSUPPORTED"),
            Self::NameInvalid { .. } => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            Self::NameUnknown { .. } => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            Self::PageInvalid { .. } => (StatusCode::BAD_REQUEST, "UNSUPPORTED"),
            Self::BlobUnknown { .. } => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Self::DigestInvalid { .. } => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            Self::DigestMismatch { .. } => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            Self::SizeInvalid { .. } => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
            Self::RangeUnsatisfiable { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID"),
            Self::UploadUnknown { .. } => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            Self::UploadInvalid { .. } => (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
            Self::UploadOutOfOrder { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
            Self::ManifestUnknown { .. } => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Self::ManifestInvalid { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            Self::ManifestTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID"),
            Self::ManifestBlobUnknown { .. } => (StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Self::TooManyRequests { .. } => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
            Self::Stalled { .. } => (StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID"),
            Self::Storage(error) if error.is_storage_full() => (StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN"),
            Self::Storage(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
        }
    }

    /// Header fields that belong to the failure.
    fn headers(&self) -> Vec<(HeaderName, String)> {
        match self {
            Self::Method { allowed } => vec![(ALLOW, (*allowed).to_owned())],
            Self::Unauthorized => vec![(WWW_AUTHENTICATE, "Basic realm=\"carrack registry\"".to_owned())],
            Self::TooManyRequests { retry_seconds, .. } => vec![(RETRY_AFTER, retry_seconds.to_string())],
            Self::RangeUnsatisfiable { size_bytes } => {
                vec![(hyper::header::CONTENT_RANGE, format!("bytes */{size_bytes}"))]
            }
            Self::UploadOutOfOrder { location, expected, .. } => {
                vec![(LOCATION, location.clone()), (RANGE, wire::upload_range(*expected))]
            }
            _ => Vec::new(),
        }
    }

    /// `errors` of the body: one for each missing blob, else a single one.
    fn errors(&self) -> Vec<Value> {
        let code = self.wire().1;
        let error = |detail: Value| json!({"code": code, "message": self.message(), "detail": detail});
        match self {
            Self::ManifestBlobUnknown { missing } => {
                missing.iter().map(|digest| error(json!({"digest": digest}))).collect()
            }
            Self::BlobUnknown { digest } => vec![error(json!({"digest": digest}))],
            Self::ManifestUnknown { key } => vec![error(json!({"reference": key}))],
            Self::NameUnknown { name } | Self::NameInvalid { name } => vec![error(json!({"name": name}))],
            _ => vec![error(Value::Null)],
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Storage(error) if error.is_storage_full() => "the registry's disk is full".to_owned(),
            other => other.to_string(),
        }
    }

    /// The response; causes of failures of the server's own go to the log here, and only here.
    pub(crate) fn into_response(self) -> Response<Body> {
        if let Self::Storage(error) = &self {
            tracing::error!(%error, "cannot answer a request");
        }
        let (status, _) = self.wire();
        let text = json!({"errors": self.errors()}).to_string();
        let mut response = wire::respond(status, Body::whole(text));
        wire::set(&mut response, CONTENT_TYPE, "application/json");
        for (name, value) in self.headers() {
            wire::set(&mut response, name, &value);
        }
        response
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Content(carrack_content::Error::NotFound { digest }) => Self::BlobUnknown { digest },
            Error::Content(carrack_content::Error::DigestMismatch { expected, got, size_bytes }) => {
                Self::DigestMismatch { expected, got, size_bytes }
            }
            error => Self::Storage(error),
        }
    }
}

impl From<carrack_content::Error> for Failure {
    fn from(error: carrack_content::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<carrack_sys::Error> for Failure {
    fn from(error: carrack_sys::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<DocumentError> for Failure {
    fn from(error: DocumentError) -> Self {
        Self::ManifestInvalid { reason: error.to_string() }
    }
}
