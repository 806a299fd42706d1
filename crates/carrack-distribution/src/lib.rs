//! The registry client: resolve, fetch and push over the OCI distribution-spec 1.1, with Docker's authorization.
//!
//! Blocking, `Sync`, and distrustful: what a registry sends is bounded and verified, and a credential never leaves
//! the origin that it belongs to (see [`design`] for what is decided where the specifications leave a choice).

mod auth_file;
mod authorizer;
mod catalog;
mod challenge;
mod client;
pub mod design;
mod download;
mod error;
mod fetch;
mod helper;
mod keychain;
mod login;
mod manifest;
mod origin;
mod push;
mod registries;
mod response;
mod retry;
mod secret;
mod session;
mod tags;
mod tls;
mod token;
mod transport;

pub use auth_file::{AuthFile, Credential};
pub use client::{Client, ClientOptions, OneRegistry, PlainHttp, Proxies, Timeouts, TokenRealms};
pub use error::{Class, Error, Exchange, RegistryMessage, Result};
pub use fetch::BlobSink;
pub use keychain::{CredentialSource, Keychain};
pub use login::registry_name;
pub use manifest::Fetched;
pub use push::Pushed;
pub use registries::{Endpoint, HostCertificates, Identity, Names, RegistriesConf, RegistryFiles};
pub use retry::RetryPolicy;
pub use secret::Secret;
