//! Login and logout: credentials are tried before they are kept.

use carrack_distribution::{Class, Secret};

use crate::error::OperationContext;
use crate::{Engine, Error, Result};

impl Engine {
    /// Tries a user's password at a registry, and keeps what the registry gives for it.
    pub fn login(&self, registry: &str, user: &str, password: &str) -> Result<()> {
        let client = self.client_of_registry(registry).operation("log in to", registry)?;
        let credential = client.login(registry, user, &Secret::new(password)).map_err(|error| {
            let is_wrong = error.class() == Class::Unauthorized;
            let hint = if is_wrong { "check the user name and the password" } else { "" };
            if is_wrong { Error::refused(error.to_string(), hint) } else { error.into() }
        });
        let credential = credential.operation("log in to", registry)?;
        self.keychain()?.store(registry, &credential).operation("keep the credentials of", registry)
    }

    /// Forgets the credentials of a registry; tells whether there were any.
    pub fn logout(&self, registry: &str) -> Result<bool> {
        self.keychain()?.erase(registry).operation("log out of", registry)
    }
}
