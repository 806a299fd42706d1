//! Trust beyond the system's certificates, the extra files of the options, and certificates of our own.
//!
//! Invariant: unless the user does without, a server certificate is taken only when it chains to a trusted authority,
//! or when it is byte for byte one that the user listed; validity, name and key are checked in both cases.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use carrack_sys::IoContext;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, InconsistentKeys, OtherError, SignatureScheme,
};
use rustls_platform_verifier::Verifier;

use crate::{Error, Identity, Result};

/// TLS that trusts the system's authorities and the certificates in `files` (PEM), or any when it does not verify, and
/// shows one of `identities` where a certificate of ours is asked for.
pub(crate) fn config(files: &[PathBuf], identities: &[Identity], verify: bool) -> Result<ClientConfig> {
    let fail = |error: rustls::Error| Error::Settings { reason: error.to_string() };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let own = Own(identities.iter().map(|identity| load(identity, &provider)).collect::<Result<_>>()?);
    let verifier: Arc<dyn ServerCertVerifier> = if verify {
        let listed = read(files)?;
        let authorities = Verifier::new_with_extra_roots(listed.clone(), provider.clone()).map_err(fail)?;
        Arc::new(Listed { authorities, listed })
    } else {
        Arc::new(Unverified(provider.clone()))
    };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(fail)?.dangerous().with_custom_certificate_verifier(verifier);
    Ok(if own.0.is_empty() {
        builder.with_no_client_auth()
    } else {
        builder.with_client_cert_resolver(Arc::new(own))
    })
}

fn load(identity: &Identity, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>> {
    let chain = read(std::slice::from_ref(&identity.certificate))?;
    let bad =
        |path: &Path, reason: String| Error::Settings { reason: format!("{}: {reason}", path.display()) };
    let pem = std::fs::read(&identity.key).during("read", &identity.key)?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| bad(&identity.key, "no PEM private key without a password in it".to_owned()))?;
    let key = provider.key_provider.load_private_key(key);
    let pair = CertifiedKey::new(chain, key.map_err(|error| bad(&identity.key, error.to_string()))?);
    match pair.keys_match() {
        Err(error @ rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(bad(&identity.certificate, error.to_string()))
        }
        // Version 1 of X.509, which webpki does not read, is what openssl makes of a bare request.
        _ => Ok(Arc::new(pair)),
    }
}

/// Our certificates, of which the server is shown one that it can believe.
#[derive(Debug)]
struct Own(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Own {
    fn resolve(&self, authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let usable = || self.0.iter().filter(|pair| pair.key.choose_scheme(schemes).is_some());
        let is_known = |certificate: &CertificateDer<'_>| {
            let parsed = webpki::EndEntityCert::try_from(certificate);
            parsed.is_ok_and(|parsed| authorities.iter().any(|name| is_name(name, parsed.issuer())))
        };
        // A server that lists no authority, or one above those in the chain, may still take what there is.
        usable().find(|pair| pair.cert.iter().any(is_known)).or_else(|| usable().next()).cloned()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Whether `name`, a DER sequence as servers send it, holds `issuer`, which webpki gives without its header.
fn is_name(name: &[u8], issuer: &[u8]) -> bool {
    name == issuer || (name.len() > issuer.len() && name.len() - issuer.len() <= 4 && name.ends_with(issuer))
}

/// Any certificate will do, as the user said; who has it must still hold its key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
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
