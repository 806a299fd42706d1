//! What is known of each registry's authorization: its challenge, the user's credential, tokens by scope.
//!
//! Invariant: everything here is kept by [`Origin`] and by what its credential is for, and a credential reaches a token server of another origin
//! only under the rule of [`TokenRealms`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};
use url::Url;

use crate::challenge::Challenge;
use crate::error::redacted;
use crate::origin::{Origin, Registry, follow, is_loopback};
use crate::response::Response;
use crate::session::{Scope, Session};
use crate::token::{Bearer, Token};
use crate::{Credential, Error, Keychain, Result, Secret, TokenRealms};

/// How a registry wants to be asked.
#[derive(Clone)]
enum Method {
    Basic,
    Bearer(Bearer),
}

#[derive(Clone)]
struct Known {
    method: Method,
    credential: Option<Credential>,
}

/// An origin, and the name by which its credential is looked up.
type Place = (Origin, String);

/// The token of one place and scope. The lock is held while it is fetched, so that parallel requests ask once.
type Slot = Arc<Mutex<Option<Token>>>;

enum Credentials {
    Kept(Keychain),
    Given(Credential),
}

/// Answers challenges.
pub(crate) struct Authorizer {
    credentials: Credentials,
    token_realms: TokenRealms,
    known: Mutex<HashMap<Place, Known>>,
    tokens: Mutex<HashMap<(Place, Scope), Slot>>,
}

impl Authorizer {
    /// An authorizer that looks credentials up.
    pub(crate) fn from_keychain(keychain: Keychain, token_realms: TokenRealms) -> Self {
        Self::new(Credentials::Kept(keychain), token_realms)
    }

    /// An authorizer that tries out one credential: a login.
    pub(crate) fn with(credential: Credential, token_realms: TokenRealms) -> Self {
        Self::new(Credentials::Given(credential), token_realms)
    }

    fn new(credentials: Credentials, token_realms: TokenRealms) -> Self {
        Self { credentials, token_realms, known: Mutex::default(), tokens: Mutex::default() }
    }

    /// The `Authorization` for a request to the session's registry, as far as its challenge is known.
    pub(crate) fn header(&self, session: &Session<'_>) -> Result<Option<HeaderValue>> {
        match self.known(session) {
            Some(Known { method: Method::Basic, credential: Some(Credential::Basic { user, password }) }) => {
                basic(&user, &password).map(Some)
            }
            None | Some(Known { method: Method::Basic, .. }) => Ok(None),
            Some(Known { method: Method::Bearer(bearer), credential }) => {
                let slot = self.slot(session);
                let mut token = slot.lock().unwrap_or_else(PoisonError::into_inner);
                if !token.as_ref().is_some_and(Token::is_fresh) {
                    let fetched =
                        bearer.fetch(session.transport, &session.scope, credential.as_ref(), false)?;
                    *token = Some(fetched);
                }
                Ok(token.as_ref().map(|token| token.header.clone()))
            }
        }
    }

    /// Learns from a 401; `sent` was not enough. Returns whether another attempt can do better.
    pub(crate) fn take_challenge(
        &self,
        session: &Session<'_>,
        response: &Response,
        sent: Option<&HeaderValue>,
    ) -> Result<bool> {
        let method = match choose(response)? {
            Some(Offer::Bearer { realm, service }) => {
                let realm = follow(&response.url, &realm, session.transport.plain_http())?;
                Method::Bearer(Bearer { realm, service })
            }
            Some(Offer::Basic) => Method::Basic,
            None => return Ok(false),
        };
        let credential = self.credential(session)?;
        let hopeful = match &method {
            Method::Basic => sent.is_none() && matches!(credential, Some(Credential::Basic { .. })),
            Method::Bearer(bearer) => {
                if credential.is_some() {
                    self.check_realm(&session.registry, &bearer.realm)?;
                }
                let slot = self.slot(session);
                let mut token = slot.lock().unwrap_or_else(PoisonError::into_inner);
                // Another thread may have replaced the refused token by now.
                if token.as_ref().map(|token| &token.header) == sent {
                    *token = None;
                }
                true
            }
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(place(session), Known { method, credential });
        Ok(hopeful)
    }

    /// An identity token for the given credential; `None` where the registry issues none.
    pub(crate) fn identity_token(
        &self,
        session: &Session<'_>,
        credential: &Credential,
    ) -> Result<Option<Secret>> {
        let Some(Known { method: Method::Bearer(bearer), .. }) = self.known(session) else { return Ok(None) };
        Ok(bearer.fetch(session.transport, &session.scope, Some(credential), true)?.identity)
    }

    fn known(&self, session: &Session<'_>) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&place(session)).cloned()
    }

    fn slot(&self, session: &Session<'_>) -> Slot {
        let key = (place(session), session.scope.clone());
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone()
    }

    fn credential(&self, session: &Session<'_>) -> Result<Option<Credential>> {
        match &self.credentials {
            Credentials::Given(credential) => Ok(Some(credential.clone())),
            Credentials::Kept(keychain) => keychain.credential(&session.credentials_of),
        }
    }

    /// Refuses to show the credential of `registry` to a token server that must not have it.
    fn check_realm(&self, registry: &Registry, realm: &Url) -> Result<()> {
        let Some(origin) = Origin::of(realm) else { return Ok(()) };
        let believed = registry.origin.is_https() || is_loopback(&registry.base);
        let allowed = origin == registry.origin
            || match &self.token_realms {
                TokenRealms::Https => origin.is_https() && believed,
                TokenRealms::SameOrigin => false,
                TokenRealms::Hosts(hosts) => origin.is_among(hosts),
            };
        if allowed {
            return Ok(());
        }
        let reason = format!(
            "the registry {} wants its credentials sent to {}, which the settings do not allow",
            registry.name,
            redacted(realm)
        );
        Err(Error::Refused { reason })
    }
}

fn place(session: &Session<'_>) -> Place {
    (session.registry.origin.clone(), session.credentials_of.clone())
}

enum Offer {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// The best method that a 401 offers: a token before a password.
fn choose(response: &Response) -> Result<Option<Offer>> {
    let challenges: Vec<Challenge> =
        response.headers(WWW_AUTHENTICATE.as_str()).flat_map(Challenge::parse).collect();
    if let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
        let realm = bearer
            .parameter("realm")
            .ok_or_else(|| response.protocol_error("the Bearer challenge has no realm"))?;
        let service = bearer.parameter("service").map(str::to_owned);
        return Ok(Some(Offer::Bearer { realm: realm.to_owned(), service }));
    }
    Ok(challenges.iter().any(|challenge| challenge.scheme == "basic").then_some(Offer::Basic))
}

/// `Basic <user:password>` (RFC 7617).
pub(crate) fn basic(user: &str, password: &Secret) -> Result<HeaderValue> {
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose())));
    let mut value =
        HeaderValue::from_str(&text).map_err(|error| Error::Settings { reason: error.to_string() })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AuthFile;

    #[test]
    fn the_rule_of_foreign_token_servers() {
        let refused = |realms: &TokenRealms, scheme: &str, name: &str, realm: &str| {
            let authorizer = Authorizer::from_keychain(AuthFile::none().into(), realms.clone());
            let registry = Registry::new(name, scheme).unwrap();
            authorizer.check_realm(&registry, &realm.parse().unwrap()).is_err()
        };
        let (https, own) = (TokenRealms::Https, TokenRealms::SameOrigin);
        let listed = TokenRealms::Hosts(vec!["auth.example".to_owned(), "auth.example:8080".to_owned()]);
        for (realms, scheme, name, realm, expected) in [
            (&https, "https", "a.example", "https://a.example/token", false),
            (&https, "https", "a.example", "https://auth.example/token", false),
            (&https, "http", "127.0.0.1:5000", "https://auth.example/token", false),
            (&https, "http", "127.0.0.1:5000", "http://127.0.0.1:5000/token", false),
            // Anybody on the way could have written such a challenge.
            (&https, "http", "a.example", "https://auth.example/token", true),
            (&https, "https", "a.example", "http://a.example/token", true),
            (&https, "http", "127.0.0.1:5000", "http://127.0.0.1:5001/token", true),
            (&own, "https", "a.example", "https://a.example:443/token", false),
            (&own, "https", "a.example", "https://auth.example/token", true),
            (&listed, "https", "a.example", "https://auth.example/token", false),
            (&listed, "http", "a.example", "http://auth.example:8080/token", false),
            (&listed, "https", "a.example", "https://auth.example:444/token", true),
            (&listed, "https", "a.example", "https://other.example/token", true),
        ] {
            assert_eq!(refused(realms, scheme, name, realm), expected, "{realms:?} {scheme} {name} {realm}");
        }
    }
}
