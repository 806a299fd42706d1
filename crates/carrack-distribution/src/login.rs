//! Login: finds out whether a credential is good. Invariant: nothing is stored; the caller stores what is returned.

use carrack_oci::Reference;
use reqwest::Method;

use crate::authorizer::Authorizer;
use crate::session::{Scope, Session};
use crate::{Client, Credential, Error, Result, Secret};

impl Client {
    /// Tries `user` and `password` at `registry` (a name as in references, or Docker's
    /// `https://index.docker.io/v1/`) and returns what is to be stored for it: an identity token where the registry
    /// issues one, else the password.
    pub fn login(&self, registry: &str, user: &str, password: &Secret) -> Result<Credential> {
        let name = registry_name(registry)?;
        let credential = Credential::Basic { user: user.to_owned(), password: password.clone() };
        let authorizer = Authorizer::with(credential.clone(), self.transport.options.token_realms.clone());
        let registry = self.transport.registry(&name)?;
        let session = Session {
            transport: &self.transport,
            authorizer: &authorizer,
            registry,
            credentials_of: name,
            scope: Scope::none(),
        };
        self.retrying(|| session.send(&session.request(Method::GET, "")?)?.expect(&[200]).map(drop))?;
        let identity = authorizer.identity_token(&session, &credential)?;
        Ok(identity.map_or(credential, Credential::IdentityToken))
    }
}

/// The name of a registry as references have it, from what users write: with a scheme, a path, or an old name of
/// Docker Hub.
pub fn registry_name(text: &str) -> Result<String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let host = host.split('/').next().unwrap_or_default();
    if matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io") {
        return Ok("docker.io".to_owned());
    }
    let reference: Option<Reference> = format!("{host}/name").parse().ok();
    let name = reference.map(|reference| reference.repository().registry().to_owned());
    // A host without dot and port is read as a part of the path, and the registry is then another one.
    name.filter(|name| name == host)
        .ok_or_else(|| Error::Settings { reason: format!("{text:?} is not the name of a registry") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_names_that_users_write() {
        for (text, name) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("http://host.example:5000", "host.example:5000"),
            ("https://host.example/v2/", "host.example"),
            ("localhost", "localhost"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(registry_name(text).unwrap(), name);
        }
        for text in ["", "host", "user@host.example", "a b.c", "host.example:x", "-x.example", "a.b\n"] {
            assert!(registry_name(text).is_err(), "{text:?} was accepted");
        }
    }
}
