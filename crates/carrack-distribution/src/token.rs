//! Tokens (Docker's token authentication and OAuth2 specifications): asked of the realm that a challenge names.
//!
//! Invariant: a token answer is at most 64 KiB, and a token is a valid header value before it is kept.

use std::time::{Duration, Instant};

use carrack_oci::parse_strict;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use url::{Url, form_urlencoded};

use crate::authorizer::basic;
use crate::session::Scope;
use crate::transport::{Payload, Request, Transport};
use crate::{Credential, Error, Result, Secret};

const MAX_TOKEN_ANSWER_BYTES: u64 = 64 << 10;
/// What the specification says of a token without `expires_in`, and the least of any.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// A token is not used in its last seconds: it must still hold when the request arrives.
const MARGIN: Duration = Duration::from_secs(10);
const CLIENT_ID: &str = "carrack";

/// A Bearer challenge: where tokens come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) realm: Url,
    pub(crate) service: Option<String>,
}

/// A token that was issued.
#[derive(Clone)]
pub(crate) struct Token {
    /// `Bearer <token>`
    pub(crate) header: HeaderValue,
    /// An identity token, when one was asked for and given.
    pub(crate) identity: Option<Secret>,
    expires: Instant,
}

impl Token {
    pub(crate) fn is_fresh(&self) -> bool {
        Instant::now() + MARGIN < self.expires
    }
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<f64>,
}

impl Bearer {
    /// Asks the realm for a token; with `offline` for an identity token as well. Whether the realm may see
    /// `credential` has been decided by the caller.
    pub(crate) fn fetch(
        &self,
        transport: &Transport,
        scope: &Scope,
        credential: Option<&Credential>,
        offline: bool,
    ) -> Result<Token> {
        let request_time = Instant::now();
        let response = match credential {
            Some(Credential::IdentityToken(identity)) => {
                let form = self.refresh_form(scope, identity);
                let mut request = Request::new(Method::POST, self.realm.clone())
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")?;
                request.payload = Payload::Bytes(form.as_bytes());
                transport.send(&request, None)?
            }
            Some(Credential::Basic { user, password }) => {
                let request = Request::new(Method::GET, self.query(scope, Some(user), offline));
                transport.send(&request, Some(basic(user, password)?))?
            }
            None => transport.send(&Request::new(Method::GET, self.query(scope, None, false)), None)?,
        };
        let response = response.expect(&[200])?;
        let exchange = response.exchange.clone();
        let body = response.read_all(MAX_TOKEN_ANSWER_BYTES)?;
        let refuse = |reason: &str| Error::Protocol { exchange: exchange.clone(), reason: reason.to_owned() };
        let answer: Answer = parse_strict(&body).map_err(|_| refuse("the answer is not a token document"))?;
        let text = [answer.token, answer.access_token].into_iter().flatten().find(|text| !text.is_empty());
        let text = text.ok_or_else(|| refuse("the answer has no token"))?;
        let header = bearer(&text).ok_or_else(|| refuse("the token is not a header value"))?;
        let expires = request_time + lifetime(answer.expires_in);
        Ok(Token { header, identity: answer.refresh_token.filter(|_| offline).map(Secret::new), expires })
    }

    fn query(&self, scope: &Scope, account: Option<&str>, offline: bool) -> Url {
        let mut url = self.realm.clone();
        let mut query = url.query_pairs_mut();
        if let Some(service) = &self.service {
            query.append_pair("service", service);
        }
        for part in scope.parts() {
            query.append_pair("scope", part);
        }
        if let Some(account) = account {
            query.append_pair("account", account);
        }
        if offline {
            query.append_pair("client_id", CLIENT_ID).append_pair("offline_token", "true");
        }
        drop(query);
        url
    }

    fn refresh_form(&self, scope: &Scope, identity: &Secret) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
        form.append_pair("service", self.service.as_deref().unwrap_or_default());
        form.append_pair("scope", &scope.parts().join(" "));
        form.append_pair("refresh_token", identity.expose()).finish()
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn lifetime(seconds: Option<f64>) -> Duration {
    let given = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    given.unwrap_or_default().clamp(DEFAULT_LIFETIME, MAX_LIFETIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_bounded() {
        assert_eq!(lifetime(Some(300.0)), Duration::from_secs(300));
        for odd in [None, Some(0.0), Some(-5.0), Some(f64::NAN), Some(1.0)] {
            assert_eq!(lifetime(odd), DEFAULT_LIFETIME);
        }
        assert_eq!(lifetime(Some(1e300)), DEFAULT_LIFETIME, "no duration at all");
        assert_eq!(lifetime(Some(1e9)), MAX_LIFETIME);
    }

    #[test]
    fn the_realm_keeps_its_own_query() {
        let realm = "https://auth.example/token?tenant=1".parse().unwrap();
        let bearer = Bearer { realm, service: Some("registry one".to_owned()) };
        let repository = "host.example/a/b".parse::<carrack_oci::Reference>().unwrap().repository().clone();
        let url = bearer.query(&Scope::push(&repository), Some("joe"), false);
        let expected = "tenant=1&service=registry+one&scope=repository%3Aa%2Fb%3Apull%2Cpush&account=joe";
        assert_eq!(url.query(), Some(expected));
    }

    #[test]
    fn a_token_with_a_line_break_is_no_header() {
        assert!(bearer("abc\r\nX: y").is_none());
        assert!(format!("{:?}", bearer("abc").unwrap()).contains("Sensitive"));
    }
}
