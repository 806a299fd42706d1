//! Where requests go: registries' names on the wire, origins, and which URL may follow which.
//!
//! Invariant: a credential is attached to a request only when the request's [`Origin`] equals the one that the
//! credential belongs to, and no https origin ever leads to a plain one.

use url::{Host, Url};

use crate::error::redacted;
use crate::{Error, PlainHttp, Result};

/// The one public host that carrack knows: what answers for `docker.io`.
const DOCKER_HUB_WIRE_HOST: &str = "registry-1.docker.io";

/// The host that serves the API of a registry.
pub(crate) fn wire_host(registry: &str) -> &str {
    if registry == "docker.io" { DOCKER_HUB_WIRE_HOST } else { registry }
}

/// Scheme, host and port (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    https: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of `url`; `None` unless it is http or https.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        Some(Self { https, host: url.host_str()?.to_owned(), port: url.port_or_known_default()? })
    }

    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    /// Whether one of `entries`, each `host` (the scheme's own port) or `host:port`, names this origin.
    pub(crate) fn is_among(&self, entries: &[String]) -> bool {
        let with_port = format!("{}:{}", self.host, self.port);
        let default_port = self.port == if self.https { 443 } else { 80 };
        entries.iter().any(|entry| *entry == with_port || (default_port && *entry == self.host))
    }
}

/// A registry as it is reached.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    /// Its name in references, by which credentials are looked up.
    pub(crate) name: String,
    /// `scheme://host[:port]/v2/`
    pub(crate) base: Url,
    /// The origin of `base`.
    pub(crate) origin: Origin,
}

impl Registry {
    pub(crate) fn new(name: &str, scheme: &str) -> Result<Self> {
        let text = format!("{scheme}://{}/v2/", wire_host(name));
        let refuse = || Error::Refused { reason: format!("{name:?} is not the name of a registry") };
        let base: Url = text.parse().map_err(|_| refuse())?;
        let origin = Origin::of(&base).ok_or_else(refuse)?;
        Ok(Self { name: name.to_owned(), base, origin })
    }

    /// `/v2/<path>` of this registry. `path` is made of checked names only.
    pub(crate) fn url(&self, path: &str) -> Result<Url> {
        let refuse = |error| Error::Refused { reason: format!("the path {path:?}: {error}") };
        self.base.join(path).map_err(refuse)
    }
}

impl PlainHttp {
    /// Whether the host of `url` may be reached without TLS.
    pub(crate) fn allows(&self, url: &Url) -> bool {
        let listed = match self {
            Self::Never => return false,
            Self::Loopback => &[][..],
            Self::Hosts(hosts) => hosts,
        };
        let host = url.host_str().unwrap_or_default();
        let with_port = url.port().map(|port| format!("{host}:{port}"));
        is_loopback(url) || listed.iter().any(|entry| *entry == host || Some(entry) == with_port.as_ref())
    }
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The URL that `location`, sent by `from`, leads to, when carrack goes there.
pub(crate) fn follow(from: &Url, location: &str, plain_http: &PlainHttp) -> Result<Url> {
    let refuse = |why: &str| {
        let location = location.split(['?', '#']).next().unwrap_or_default();
        Err(Error::Refused {
            reason: format!("{} leads to {:?}: {why}", redacted(from), crate::error::printable(location)),
        })
    };
    let Ok(target) = from.join(location) else { return refuse("not a URL") };
    if !target.username().is_empty() || target.password().is_some() {
        // Not shown: what stands there is somebody's credential.
        return Err(Error::Refused { reason: format!("{} leads to a URL with a password", redacted(from)) });
    }
    match target.scheme() {
        "https" => Ok(target),
        "http" if from.scheme() == "https" => refuse("from https to plain http"),
        "http" if plain_http.allows(&target) => Ok(target),
        "http" => refuse("plain http to a host that is not allowed for it"),
        _ => refuse("neither http nor https"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn composes_wire_names() {
        assert_eq!(
            Registry::new("docker.io", "https").unwrap().base.as_str(),
            "https://registry-1.docker.io/v2/"
        );
        let registry = Registry::new("[::1]:5000", "http").unwrap();
        assert_eq!(registry.url("a/b/tags/list").unwrap().as_str(), "http://[::1]:5000/v2/a/b/tags/list");
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        let origin = |text: &str| Origin::of(&url(text));
        assert_eq!(origin("https://a.example/x"), origin("https://A.example:443/y"));
        for other in ["http://a.example/", "https://a.example:444/", "https://b.example/"] {
            assert_ne!(origin("https://a.example/"), origin(other));
        }
        assert_eq!(origin("file:///etc/passwd"), None);
    }

    #[test]
    fn plain_http_is_for_loopback_and_listed_hosts() {
        let listed = PlainHttp::Hosts(vec!["a.example".to_owned(), "b.example:5000".to_owned()]);
        for yes in [
            "http://127.1.2.3:5000",
            "http://[::1]",
            "http://localhost",
            "http://a.example:1",
            "http://b.example:5000",
        ] {
            assert!(listed.allows(&url(yes)), "{yes}");
        }
        for no in ["http://b.example", "http://xa.example", "http://localhost.example", "http://128.0.0.1"] {
            assert!(!listed.allows(&url(no)), "{no}");
        }
        assert!(!PlainHttp::Loopback.allows(&url("http://a.example")));
        assert!(!PlainHttp::Never.allows(&url("http://127.0.0.1")));
    }

    #[test]
    fn follows_upwards_only() {
        let go = |from: &str, location: &str| follow(&url(from), location, &PlainHttp::Loopback);
        let secure = "https://a.example/v2/x";
        assert_eq!(go(secure, "/y?z=1").unwrap().as_str(), "https://a.example/y?z=1");
        assert_eq!(go(secure, "https://b.example/").unwrap().as_str(), "https://b.example/");
        assert!(go("http://127.0.0.1:1/", "http://127.0.0.1:2/").is_ok());
        for location in
            ["http://a.example/", "http://127.0.0.1/", "file:///etc/passwd", "//u:p@a.example/", "https://"]
        {
            let error = go(secure, location).unwrap_err().to_string();
            assert!(error.starts_with("refused by carrack") && !error.contains("u:p"), "{error}");
        }
        assert!(go("http://127.0.0.1:1/", "http://a.example/").is_err());
    }
}
