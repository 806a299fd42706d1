//! What can go wrong between us and a registry.
//!
//! Invariant: no error text holds a credential, the query of a URL, or a control character that a registry sent.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use carrack_oci::Digest;
use serde::Deserialize;
use url::Url;

/// The result of an operation on a registry.
pub type Result<T, E = Error> = std::result::Result<T, E>;

const MAX_MESSAGES: usize = 4;
const MAX_MESSAGE_CHARS: usize = 300;

/// One request as it may be shown: the URL has neither user information nor query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The HTTP method.
    pub method: String,
    /// `scheme://host[:port]/path`.
    pub url: String,
}

impl Exchange {
    pub(crate) fn new(method: &str, url: &Url) -> Self {
        Self { method: method.to_owned(), url: redacted(url) }
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.method, self.url)
    }
}

/// A URL without what may be secret in it: signed URLs of object stores carry their credential in the query.
pub(crate) fn redacted(url: &Url) -> String {
    let mut url = url.clone();
    // Fails only for URLs that can have no user information, which is as good.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    printable(url.as_str())
}

/// Text of a registry, cut to length and without characters that steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(MAX_MESSAGE_CHARS).map(|one| if one.is_control() { '\u{fffd}' } else { one }).collect()
}

/// One entry of a registry's error document (distribution-spec, "Error Codes").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryMessage {
    /// The code, as in `MANIFEST_UNKNOWN`.
    pub code: String,
    /// The registry's own words.
    pub message: String,
}

impl RegistryMessage {
    /// Reads an error document; anything else is no message, since error pages come in every form.
    pub(crate) fn parse(body: &[u8]) -> Vec<Self> {
        #[derive(Deserialize)]
        struct Document {
            errors: Vec<Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let Ok(document) = serde_json::from_slice::<Document>(body) else { return Vec::new() };
        let entry = |entry: Entry| Self { code: printable(&entry.code), message: printable(&entry.message) };
        document.errors.into_iter().take(MAX_MESSAGES).map(entry).collect()
    }
}

/// What a caller can do about an error: the hint that a user gets depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Credentials are missing or wrong: log in.
    Unauthorized,
    /// Known, but not allowed.
    Denied,
    /// The manifest, blob or repository does not exist (or is hidden).
    NotFound,
    /// Too many requests.
    RateLimited,
    /// No answer: name, network, server, or an answer that broke off.
    Unreachable,
    /// TLS failed; most often the certificate is not trusted.
    Tls,
    /// The registry sent what it must not: wrong bytes, wrong size, wrong protocol.
    Corrupt,
    /// A rule of ours forbids what the registry asks for.
    Refused,
    /// The auth file, a credential helper or another setting.
    Settings,
    /// Reading or writing on this side failed.
    Local,
    /// The registry reports any other failure.
    Registry,
}

/// A failed operation on a registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry answered with a status that is not what the operation needs.
    #[error("cannot {exchange}: {}", describe(*status, messages))]
    Status {
        /// The request.
        exchange: Exchange,
        /// The HTTP status.
        status: u16,
        /// What the registry says about it.
        messages: Vec<RegistryMessage>,
        /// The pause that the registry asks for.
        retry_after: Option<Duration>,
    },
    /// No answer came.
    #[error("cannot {exchange}: {reason}")]
    Unreachable {
        /// The request.
        exchange: Exchange,
        /// The innermost cause.
        reason: String,
    },
    /// The TLS handshake failed.
    #[error("cannot {exchange}: TLS failed: {reason}")]
    Tls {
        /// The request.
        exchange: Exchange,
        /// The innermost cause.
        reason: String,
    },
    /// The body broke off.
    #[error("cannot {exchange}: expected {expected_bytes} bytes, got {got_bytes}: {reason}")]
    Truncated {
        /// The request.
        exchange: Exchange,
        /// Where the body should have ended.
        expected_bytes: u64,
        /// Where it ended.
        got_bytes: u64,
        /// Why.
        reason: String,
    },
    /// The bytes are not those of the digest.
    #[error("cannot {exchange}: digest mismatch: expected {expected}, got {got}")]
    DigestMismatch {
        /// The request.
        exchange: Exchange,
        /// What was asked for or announced.
        expected: Digest,
        /// What the bytes have.
        got: Digest,
    },
    /// The registry breaks the protocol.
    #[error("cannot {exchange}: {reason}")]
    Protocol {
        /// The request.
        exchange: Exchange,
        /// What it did.
        reason: String,
    },
    /// The registry asks for what carrack does not do.
    #[error("refused by carrack: {reason}")]
    Refused {
        /// What, and which rule.
        reason: String,
    },
    /// The sink of a fetch failed.
    #[error("cannot write the blob {digest}: {source}")]
    Sink {
        /// The blob.
        digest: Digest,
        /// What the sink says.
        source: io::Error,
    },
    /// The source of a push failed.
    #[error("cannot read the blob {digest}: {source}")]
    Source {
        /// The blob.
        digest: Digest,
        /// What the source says.
        source: io::Error,
    },
    /// The auth file is not what it should be.
    #[error("cannot use the auth file {}: {reason}", path.display())]
    AuthFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A credential helper failed.
    #[error("cannot run {program}: {reason}")]
    Helper {
        /// `docker-credential-...`
        program: String,
        /// What is wrong.
        reason: String,
    },
    /// A registries.conf, or a file beside it, is not what it should be.
    #[error("cannot use the registries configuration {}: {reason}", file.display())]
    RegistriesConf {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The configuration forbids a registry.
    #[error("{name} is blocked: {} has blocked = true for the prefix {prefix}", file.display())]
    Blocked {
        /// What was asked for, or where it would have been fetched.
        name: String,
        /// The prefix that matched.
        prefix: String,
        /// The registries.conf that says so.
        file: PathBuf,
    },
    /// A folder of certificates for one registry is not what it should be.
    #[error("cannot use the certificates in {}: {reason}", folder.display())]
    Certificates {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A setting of the client cannot be used.
    #[error("cannot set up the registry client: {reason}")]
    Settings {
        /// What is wrong.
        reason: String,
    },
    /// A local file.
    #[error(transparent)]
    File(#[from] carrack_sys::Error),
}

impl Error {
    /// What a caller can do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Status { status, .. } => match status {
                401 => Class::Unauthorized,
                403 => Class::Denied,
                404 => Class::NotFound,
                429 => Class::RateLimited,
                _ => Class::Registry,
            },
            Self::Unreachable { .. } | Self::Truncated { .. } => Class::Unreachable,
            Self::Tls { .. } => Class::Tls,
            Self::DigestMismatch { .. } | Self::Protocol { .. } => Class::Corrupt,
            Self::Refused { .. } | Self::Blocked { .. } => Class::Refused,
            Self::AuthFile { .. }
            | Self::Helper { .. }
            | Self::RegistriesConf { .. }
            | Self::Certificates { .. }
            | Self::Settings { .. } => Class::Settings,
            Self::Sink { .. } | Self::Source { .. } | Self::File(_) => Class::Local,
        }
    }

    /// Whether the same request may succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            Self::Unreachable { .. } | Self::Truncated { .. } => true,
            _ => false,
        }
    }
}

fn describe(status: u16, messages: &[RegistryMessage]) -> String {
    let code = reqwest::StatusCode::from_u16(status).ok();
    let mut text = match code.and_then(|code| code.canonical_reason()) {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    };
    for RegistryMessage { code, message } in messages {
        text.push_str(&format!(": {code}: {message}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_messages_are_shown_without_secrets_and_escapes() {
        let url = "https://user:pw@host.example/v2/a?X-Signature=secret#x".parse().unwrap();
        assert_eq!(Exchange::new("GET", &url).to_string(), "GET https://host.example/v2/a");
        let body = br#"{"errors":[{"code":"DENIED","message":"\u001b[2Jgone","detail":null}]}"#;
        let messages = RegistryMessage::parse(body);
        assert_eq!(messages[0].message, "\u{fffd}[2Jgone");
        assert_eq!(describe(403, &messages), "403 Forbidden: DENIED: \u{fffd}[2Jgone");
        assert!(RegistryMessage::parse(b"<html>").is_empty());
    }
}
