//! Trust beyond the system's certificates: the extra files of the options.
//!
//! Invariant: a server certificate is taken only when it chains to a trusted authority, or when it is byte for byte
//! one that the user listed; validity, name and key are checked in both cases.

use std::path::PathBuf;
use std::sync::Arc;

use carrack_sys::IoContext;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_platform_verifier::Verifier;

use crate::{Error, Result};

/// TLS that trusts the system's authorities and the certificates in `files` (PEM).
pub(crate) fn trusting(files: &[PathBuf]) -> Result<ClientConfig> {
    let fail = |error: rustls::Error| Error::Settings { reason: error.to_string() };
    let listed = read(files)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let authorities = Verifier::new_with_extra_roots(listed.clone(), provider.clone()).map_err(fail)?;
    let verifier = Arc::new(Listed { authorities, listed });
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.map_err(fail)?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn read(files: &[PathBuf]) -> Result<Vec<CertificateDer<'static>>> {
    let mut certificates = Vec::new();
    for path in files {
        let pem = std::fs::read(path).during("read", path)?;
        let bad = |reason: &str| Error::Settings { reason: format!("{}: {reason}", path.display()) };
        let before = certificates.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            certificates.push(certificate.map_err(|error| bad(&error.to_string()))?);
        }
        if certificates.len() == before {
            return Err(bad("no PEM certificate in it"));
        }
    }
    Ok(certificates)
}

/// Docker's documentation has users make one self-signed certificate, list it as an authority, and serve with it.
/// OpenSSL marks it as an authority too, and as such webpki takes it for no server's. It is what the user listed all
/// the same.
#[derive(Debug)]
struct Listed {
    authorities: Verifier,
    listed: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Listed {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.authorities.verify_server_cert(certificate, intermediates, name, ocsp_response, now) {
            // webpki comes to this error only after the period of validity has been found good.
            Err(error)
                if is_authority_as_server(&error) && self.listed.iter().any(|one| one == certificate) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

fn is_authority_as_server(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) = error else {
        return false;
    };
    matches!(cause.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}
