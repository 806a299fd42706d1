//! One registry under one scope: requests with authorization, a challenge answered once, redirects followed.
//!
//! Invariant: `Authorization` goes to the registry's own origin and nowhere else, and there only as long as no other
//! host has redirected.

use carrack_oci::Repository;
use reqwest::Method;
use url::Url;

use crate::authorizer::Authorizer;
use crate::origin::{Origin, Registry, follow};
use crate::response::Response;
use crate::transport::{Request, Transport};
use crate::{Error, Result};

const MAX_REDIRECTS: u32 = 5;

/// What a token is asked for (Docker's token specification, "Requesting a Token"). It comes from the operation,
/// never from the challenge: a registry cannot widen it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scope(Vec<String>);

impl Scope {
    /// No resource: a login.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// The list of a registry's repositories.
    pub(crate) fn catalog() -> Self {
        Self(vec!["registry:catalog:*".to_owned()])
    }

    pub(crate) fn pull(repository: &Repository) -> Self {
        Self(vec![format!("repository:{}:pull", repository.path())])
    }

    pub(crate) fn push(repository: &Repository) -> Self {
        Self(vec![format!("repository:{}:pull,push", repository.path())])
    }

    pub(crate) fn mount(to: &Repository, from: &Repository) -> Self {
        let mut scope = Self::push(to);
        scope.0.extend(Self::pull(from).0);
        scope
    }

    pub(crate) fn parts(&self) -> &[String] {
        &self.0
    }
}

/// A registry, and what is to be done there.
pub(crate) struct Session<'a> {
    pub(crate) transport: &'a Transport,
    pub(crate) authorizer: &'a Authorizer,
    pub(crate) registry: Registry,
    /// By which credentials are looked up: the registry's name, or that of a repository of it.
    pub(crate) credentials_of: String,
    pub(crate) scope: Scope,
}

impl Session<'_> {
    /// A request below `/v2/`.
    pub(crate) fn request(&self, method: Method, path: &str) -> Result<Request<'static>> {
        Ok(Request::new(method, self.registry.url(path)?))
    }

    /// Sends `request`, answers a challenge of the registry once, and follows redirects of GET and HEAD.
    pub(crate) fn send(&self, request: &Request<'_>) -> Result<Response> {
        let mut request = request.clone();
        let (mut own, mut challenged, mut redirects) = (true, false, 0);
        loop {
            // Once elsewhere, a redirect back to the registry is another host's choice of what to ask for.
            own = own && Origin::of(&request.url).as_ref() == Some(&self.registry.origin);
            let authorization = if own { self.authorizer.header(self)? } else { None };
            let response = self.transport.send(&request, authorization.clone())?;
            match response.status {
                401 if own && !challenged => {
                    challenged = true;
                    if !self.authorizer.take_challenge(self, &response, authorization.as_ref())? {
                        return Ok(response);
                    }
                }
                301 | 302 | 303 | 307 | 308 if matches!(request.method, Method::GET | Method::HEAD) => {
                    redirects += 1;
                    if redirects > MAX_REDIRECTS {
                        let reason =
                            format!("{} redirects more than {MAX_REDIRECTS} times", response.exchange);
                        return Err(Error::Refused { reason });
                    }
                    request.url = self.location(&response)?;
                }
                _ => return Ok(response),
            }
        }
    }

    /// Where the `Location` of `response` leads, when carrack goes there.
    pub(crate) fn location(&self, response: &Response) -> Result<Url> {
        let location = response.header("location");
        let location = location.ok_or_else(|| response.protocol_error("the Location is missing"))?;
        follow(&response.url, location, self.transport.plain_http())
    }
}
