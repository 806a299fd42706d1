//! Where credentials are looked for and kept: the auth file, and the helpers that registries.conf names beside it.
//!
//! Invariant: sources are asked in their order; one that fails does not hide what a later one has, and is an error
//! where none has anything.

use crate::helper::Helper;
use crate::login::registry_name;
use crate::{AuthFile, Credential, Error, Result};

/// One place in the order of `credential-helpers` of containers-registries.conf(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// `containers-auth.json`: the auth file, and the helpers that it names for single registries.
    AuthFile,
    /// `docker-credential-<name>`, for every registry.
    Helper(String),
}

/// All sources of credentials; changes go to them at once.
#[derive(Clone, Debug)]
pub struct Keychain {
    file: AuthFile,
    sources: Vec<CredentialSource>,
}

impl From<AuthFile> for Keychain {
    /// The auth file alone.
    fn from(file: AuthFile) -> Self {
        Self { file, sources: vec![CredentialSource::AuthFile] }
    }
}

impl Keychain {
    /// The auth file and these helpers, in the order of `sources`; without any, the file is the only one.
    pub fn new(file: AuthFile, sources: &[CredentialSource]) -> Self {
        match sources {
            [] => file.into(),
            sources => Self { file, sources: sources.to_vec() },
        }
    }

    /// The credential for `name`: a registry, or a repository of it (`host.example/team/app`), which the auth file may
    /// know more closely.
    pub fn credential(&self, name: &str) -> Result<Option<Credential>> {
        let mut failure = None;
        for source in &self.sources {
            let found = match source {
                CredentialSource::AuthFile => self.file.credential(name),
                CredentialSource::Helper(helper) => self.helper(helper).and_then(|helper| {
                    let registry = name.split_once('/').map_or(name, |(registry, _)| registry);
                    helper.get(registry)
                }),
            };
            match found {
                Ok(Some(credential)) => return Ok(Some(credential)),
                Ok(None) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// Keeps the credential of a registry in the first source that takes it.
    pub fn store(&mut self, registry: &str, credential: &Credential) -> Result<()> {
        let registry = registry_name(registry)?;
        let mut failure = None;
        for source in self.sources.clone() {
            let stored = match source {
                CredentialSource::AuthFile => self.file.store(&registry, credential),
                CredentialSource::Helper(name) => {
                    self.helper(&name).and_then(|helper| helper.store(&registry, credential))
                }
            };
            match stored {
                Ok(()) => return Ok(()),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Forgets the credential of a registry in every source, also when one fails; returns whether there was one.
    pub fn erase(&mut self, registry: &str) -> Result<bool> {
        let registry = registry_name(registry)?;
        let (mut known, mut failure) = (false, None::<Error>);
        for source in self.sources.clone() {
            let erased = match source {
                CredentialSource::AuthFile => self.file.erase(&registry),
                CredentialSource::Helper(name) => {
                    self.helper(&name).and_then(|helper| helper.erase_if_kept(&registry))
                }
            };
            match erased {
                Ok(was_kept) => known |= was_kept,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(known), Err)
    }

    fn helper(&self, name: &str) -> Result<Helper<'_>> {
        Helper::new(name, self.file.helper_path())
    }
}
