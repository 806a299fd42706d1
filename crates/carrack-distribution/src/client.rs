//! The client and its options. Invariant: one [`Client`] holds what is learnt of registries (scheme, challenge,
//! tokens) for as long as it lives, and may be used from several threads at once.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::authorizer::Authorizer;
use crate::session::{Scope, Session};
use crate::transport::Transport;
use crate::{Identity, Keychain, Result, RetryPolicy};
use carrack_oci::Repository;

/// Which registries may be reached by plain HTTP, when they do not answer to TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlainHttp {
    /// None, not even on loopback.
    Never,
    /// Loopback hosts only: 127.0.0.0/8, `::1`, `localhost`.
    Loopback,
    /// Loopback hosts and these, each `host` (every port) or `host:port`.
    Hosts(Vec<String>),
}

/// Which token servers of another origin than the registry's get the registry's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenRealms {
    /// Any https server that the registry names over https, or over loopback.
    Https,
    /// None.
    SameOrigin,
    /// These only, each `host` (port 443) or `host:port`.
    Hosts(Vec<String>),
}

/// How long a silent peer is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// Until an answer begins, and between two pieces of a body; a blob must also bring 1 KiB a second on
    /// average over this time.
    pub idle: Duration,
    /// For a whole manifest, tag list or token.
    pub document: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            document: Duration::from_secs(60),
        }
    }
}

/// HTTP proxies, as in the variables `http_proxy`, `https_proxy` and `no_proxy`; loopback is never proxied.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http://` URLs.
    pub http: Option<String>,
    /// For `https://` URLs.
    pub https: Option<String>,
    /// Hosts that are reached directly, comma-separated.
    pub no_proxy: Option<String>,
}

impl fmt::Debug for Proxies {
    /// Without the addresses, which may hold passwords.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { http, https, no_proxy } = self;
        let mut fields = formatter.debug_struct("Proxies");
        fields.field("http", &http.is_some()).field("https", &https.is_some());
        fields.field("no_proxy", no_proxy).finish()
    }
}

/// What holds for the one registry that a client is for, and for no other host that it may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneRegistry {
    /// Its name as in references.
    pub name: String,
    /// Accepts any certificate of it.
    pub skip_tls_verify: bool,
    /// Who we are, when it asks for a certificate of ours; it takes the first that suits it.
    pub identities: Vec<Identity>,
}

/// How a [`Client`] behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Sent with each request.
    pub user_agent: String,
    /// Where credentials come from.
    pub auth: Keychain,
    /// Which registries may be reached without TLS.
    pub plain_http: PlainHttp,
    /// Which foreign token servers get credentials.
    pub token_realms: TokenRealms,
    /// Accepts any certificate.
    pub skip_tls_verify: bool,
    /// PEM files with certificates that are trusted besides those of the system.
    pub extra_ca_files: Vec<PathBuf>,
    /// What holds for one registry alone.
    pub registry: Option<OneRegistry>,
    /// Proxies on the way.
    pub proxies: Proxies,
    /// How failed requests are repeated.
    pub retry: RetryPolicy,
    /// How long a silent peer is waited for.
    pub timeouts: Timeouts,
}

impl ClientOptions {
    /// The safe defaults: TLS verified, plain HTTP on loopback only, five attempts.
    pub fn new(user_agent: &str, auth: impl Into<Keychain>) -> Self {
        Self {
            user_agent: user_agent.to_owned(),
            auth: auth.into(),
            plain_http: PlainHttp::Loopback,
            token_realms: TokenRealms::Https,
            skip_tls_verify: false,
            extra_ca_files: Vec::new(),
            registry: None,
            proxies: Proxies::default(),
            retry: RetryPolicy::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// A client of any number of registries.
pub struct Client {
    pub(crate) transport: Transport,
    pub(crate) authorizer: Authorizer,
    pub(crate) retry: RetryPolicy,
}

impl Client {
    /// Sets a client up; nothing is sent, and the system's certificates are read at the first use of TLS.
    pub fn new(options: ClientOptions) -> Result<Self> {
        let authorizer = Authorizer::from_keychain(options.auth.clone(), options.token_realms.clone());
        let retry = options.retry.clone();
        Ok(Self { transport: Transport::new(options)?, authorizer, retry })
    }

    pub(crate) fn session(&self, repository: &Repository, scope: Scope) -> Result<Session<'_>> {
        let registry = self.transport.registry(repository.registry())?;
        let credentials_of = repository.to_string();
        Ok(Session {
            transport: &self.transport,
            authorizer: &self.authorizer,
            registry,
            credentials_of,
            scope,
        })
    }
}
