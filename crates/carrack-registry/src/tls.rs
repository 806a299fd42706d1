//! TLS from a certificate chain and a key in PEM files.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::{Error, Result};

/// Reads `certificates` (the server's first, then its chain) and `key`; HTTP/1.1 is what is spoken inside.
pub(crate) fn acceptor(certificates: &Path, key: &Path) -> Result<TlsAcceptor> {
    let refuse = |path: &Path, reason: String| Error::Tls { path: path.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(certificates).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| refuse(certificates, error.to_string()))?;
    if chain.is_empty() {
        return Err(refuse(certificates, "expected a PEM certificate, got none".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| refuse(key, error.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, secret));
    let mut config = config.map_err(|error| refuse(key, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
