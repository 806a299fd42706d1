//! From a request to its response: authentication, routing, and what all responses have.
//!
//! Invariant: nothing of a repository is looked at before the request is authenticated.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use carrack_oci::Digest;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, EXPECT, HeaderMap, HeaderName, IF_NONE_MATCH};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;

use crate::authentication::Authentication;
use crate::body::Body;
use crate::buffers::Buffers;
use crate::failure::{Answer, Failure};
use crate::query::Query;
use crate::route::Route;
use crate::server::Options;
use crate::session::{EXPIRY, Sessions};
use crate::store::Store;
use crate::{Error, Result, wire};

const MAX_ADDRESS_BYTES: usize = 8 << 10;
/// How many manifests are received at once.
const DOCUMENTS: usize = 16;
/// How much of a refused request's body is read, and for how long, so that the client sees the refusal instead of a
/// reset connection.
const DRAIN_BYTES: usize = 8 << 20;
const DRAIN: Duration = Duration::from_secs(2);

/// What all connections share.
pub(crate) struct Service {
    pub(crate) store: Arc<Store>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) buffers: Buffers,
    pub(crate) documents: Semaphore,
    authentication: Option<Authentication>,
}

impl Service {
    /// Opens what is below the root, and collects what nothing names.
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let service = Self {
            store: Arc::new(Store::open(&options.root)?),
            sessions: Arc::new(Sessions::open(options.root.join("uploads"))?),
            buffers: Buffers::default(),
            documents: Semaphore::new(DOCUMENTS),
            authentication: options.htpasswd.clone().map(Authentication::open).transpose()?,
        };
        service.tidy();
        Ok(service)
    }

    /// Drops uploads that nobody goes on with, and collects. A failure is logged: the registry can serve without.
    pub(crate) fn tidy(&self) {
        let tidied = self.sessions.expire(EXPIRY).and_then(|()| self.store.collect());
        match tidied {
            Ok(0) => {}
            Ok(freed_bytes) => tracing::info!(freed_bytes, "collected what nothing names"),
            Err(error) => tracing::error!(%error, "cannot collect"),
        }
    }

    /// Answers one request of `peer`. Of the request's address only the path is logged, and none of its header.
    pub(crate) async fn respond(&self, peer: IpAddr, mut request: Request<Incoming>) -> Response<Body> {
        let began = Instant::now();
        let mut response = match self.answer(peer, &mut request).await {
            Ok(response) => response,
            Err(failure) => {
                let is_read = drain(&mut request).await;
                let mut response = failure.into_response();
                if !is_read {
                    wire::set(&mut response, CONNECTION, "close");
                }
                response
            }
        };
        wire::set(&mut response, wire::API_VERSION, "registry/2.0");
        // What is served was made by strangers: a browser must not guess that it is a page.
        wire::set(&mut response, HeaderName::from_static("x-content-type-options"), "nosniff");
        let (method, path, status) = (request.method(), request.uri().path(), response.status().as_u16());
        tracing::info!(%peer, %method, path, status, elapsed = ?began.elapsed(), "answered");
        response
    }

    async fn answer(&self, peer: IpAddr, request: &mut Request<Incoming>) -> Answer<Response<Body>> {
        if let Some(authentication) = &self.authentication {
            authentication.check(peer, request.headers().get(AUTHORIZATION)).await?;
        }
        let address = request.uri().path_and_query().map_or("", |address| address.as_str());
        if address.len() > MAX_ADDRESS_BYTES {
            return Err(Failure::AddressTooLong { limit: MAX_ADDRESS_BYTES });
        }
        match Route::parse(request.uri().path()) {
            Route::Base => only_get(request).map(|_| base()),
            Route::Catalog => self.catalog(only_get(request)?).await,
            Route::Tags(name) => self.tags(name, only_get(request)?).await,
            Route::Referrers(name, digest) => self.referrers(name, &digest, only_get(request)?).await,
            Route::Manifest(name, key) => self.manifest(name, &key, request).await,
            Route::Blob(name, digest) => self.blob(name, &digest, request).await,
            Route::Uploads(name) if request.method() == Method::POST => {
                self.start_upload(name, request).await
            }
            Route::Uploads(_) => Err(Failure::Method { allowed: "POST" }),
            Route::Upload(name, id) => self.upload(name, id, request).await,
            Route::InvalidName(name) => Err(Failure::NameInvalid { name }),
            Route::Unknown => Err(Failure::NoEndpoint),
        }
    }
}

/// "Determining Support".
fn base() -> Response<Body> {
    let mut response = wire::respond(StatusCode::OK, Body::whole("{}"));
    wire::set(&mut response, CONTENT_TYPE, "application/json");
    response
}

/// The query of a request to an endpoint that can only be read.
fn only_get(request: &Request<Incoming>) -> Answer<Query> {
    match *request.method() {
        Method::GET | Method::HEAD => Ok(Query::parse(request.uri().query())),
        _ => Err(Failure::Method { allowed: "GET, HEAD" }),
    }
}

/// Reads the body of a request that was refused; false when it does not end soon, so that the connection is of no
/// further use. A client that waits for `100 Continue` has not sent any.
async fn drain(request: &mut Request<Incoming>) -> bool {
    if request.body().is_end_stream() {
        return true;
    }
    if request.headers().contains_key(EXPECT) {
        return false;
    }
    let body = request.body_mut();
    let read = async {
        let mut drained = 0;
        while let Some(frame) = body.frame().await {
            drained += frame.ok()?.data_ref().map_or(0, |bytes| bytes.len());
            if drained > DRAIN_BYTES {
                return None;
            }
        }
        Some(())
    };
    matches!(tokio::time::timeout(DRAIN, read).await, Ok(Some(())))
}

/// Runs `work` on a thread that may block. It begins now, and goes on to its end when the future is dropped.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Answer<T> + Send + 'static,
) -> impl Future<Output = Answer<T>> + Send {
    let job = tokio::task::spawn_blocking(work);
    async move {
        let failed = |error: tokio::task::JoinError| Error::Worker { reason: error.to_string() };
        job.await.map_err(failed).map_err(Failure::Storage)?
    }
}

/// A header field as text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The entity tag of content: its digest.
pub(crate) fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether the client says that it has the content already (`If-None-Match`).
pub(crate) fn matches_etag(headers: &HeaderMap, digest: &Digest) -> bool {
    let Some(tags) = text(headers, &IF_NONE_MATCH) else { return false };
    let own = etag(digest);
    tags.split(',')
        .map(|tag| tag.trim())
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == own)
}
