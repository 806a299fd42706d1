//! A registry server: OCI distribution-spec 1.1 over HTTP/1.1, with TLS and Basic authentication.
//!
//! ```text
//! <root>/
//!   lock                                     held by the one server process that uses this folder
//!   content/                                 every blob and manifest by digest (a `ContentStore`)
//!   uploads/<uuid>                           the bytes of an upload that is not closed yet
//!   uploads/<uuid>.repository                the repository that the upload belongs to
//!   repositories/<name>/
//!     _blobs/<alg>/<hex>                     empty: the repository has this blob
//!     _manifests/<alg>/<hex>                 the media type under which the manifest was pushed
//!     _tags/<tag>                            the digest that the tag names
//!     _referrers/<alg>/<hex>/<alg>-<hex>     the descriptor of a manifest (2nd) whose subject is the 1st
//! ```
//!
//! A component of a repository name begins with a letter or digit, so `_` keeps the folders of a repository apart
//! from repositories below it.
//!
//! Invariant: *content is named last*. Bytes are hashed and synced before a link, a record or a tag names them, and
//! that is synced before the client gets its 201. Whatever a crash leaves is an upload that goes on, or content that
//! nothing names; the next start collects the latter.

mod authentication;
mod blobs;
mod body;
mod buffers;
mod cache;
mod collect;
mod error;
mod failure;
mod htpasswd;
mod listing;
mod manifests;
mod name;
mod query;
mod range;
mod receive;
mod referrers;
mod repository;
mod route;
mod server;
mod service;
mod session;
mod store;
mod throttle;
mod tls;
mod uploads;
mod wire;

pub use error::{Error, Result};
pub use server::{Options, serve};
