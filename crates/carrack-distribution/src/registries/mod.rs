//! The configuration of the containers tools: containers-registries.conf(5) and containers-certs.d(5).
//!
//! Invariant: a file that those tools read is read here with the same meaning, or refused with its name; keys that are
//! not known are passed over, as they do.

mod certificates;
mod conf;
mod endpoints;
mod file;
mod short_names;

pub use certificates::{HostCertificates, Identity};
pub use conf::{RegistriesConf, RegistryFiles};
pub use endpoints::Endpoint;
pub use short_names::Names;
