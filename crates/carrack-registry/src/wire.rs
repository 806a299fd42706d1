//! The header fields of the protocol, and responses made of them.

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use crate::body::Body;

/// The digest of the entity that a request is about.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The id of an upload, as Docker's clients log it.
pub(crate) const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// On every response: which protocol this is ("Legacy Docker support HTTP headers").
pub(crate) const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
/// The subject of a pushed manifest ("Pushing Manifests with Subject").
pub(crate) const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// A tag that was made by a push by digest ("Pushing Manifests").
pub(crate) const TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Which filters a list of referrers passed ("Listing Referrers").
pub(crate) const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// A response with `status` and `body`.
pub(crate) fn respond(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// Sets a header field. A value that no header can have is left out: all come from checked names, digests and
/// numbers, except media types, which are refused when they are pushed.
pub(crate) fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The `Range` of an upload with `offset` bytes: the last byte's position; `0-0` for none, as Docker has it.
pub(crate) fn upload_range(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}
