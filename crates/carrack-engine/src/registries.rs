//! How registries are reached: the configuration of the containers tools, what the user said on the command line, and
//! carrack's own settings, joined into one client for each place that an image may be at.
//!
//! Invariant: what is allowed for one place (plain HTTP, certificates that are not trusted, certificates of our own)
//! is allowed for no other.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use carrack_distribution::{
    AuthFile, Class, Client, ClientOptions, Endpoint, Fetched, HostCertificates, Keychain, Names,
    OneRegistry, PlainHttp, RegistriesConf, RegistryFiles, RetryPolicy,
};
use carrack_image::ShortNames;
use carrack_oci::Reference;
use serde::{Deserialize, Serialize};

use crate::{Engine, Error, Result};

/// A mirror that does not answer is waited for no longer than this: there is another place.
const MIRROR_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const MIRROR_ATTEMPTS: u32 = 2;

/// What the user says about registries on the command line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RegistryAccess {
    /// Whether TLS and certificates that are trusted are demanded; without a word, the configuration says.
    pub tls_verify: Option<bool>,
    /// Certificates for all registries of this command, in place of those of the configuration.
    pub certificates: Option<PathBuf>,
}

/// The configuration of the containers tools, read when it is first needed.
#[derive(Debug)]
pub(crate) struct Registries {
    files: RegistryFiles,
    conf: OnceLock<RegistriesConf>,
}

impl Registries {
    pub(crate) fn new(files: RegistryFiles) -> Self {
        Self { files, conf: OnceLock::new() }
    }

    fn conf(&self) -> Result<&RegistriesConf> {
        match self.conf.get() {
            Some(conf) => Ok(conf),
            None => {
                let conf = RegistriesConf::load(&self.files)?;
                Ok(self.conf.get_or_init(|| conf))
            }
        }
    }

    /// What names without a registry stand for among the images that are here.
    pub(crate) fn short_names(self: &Arc<Self>) -> ShortNames {
        let registries = self.clone();
        ShortNames::new(move |text| {
            let conf = registries.conf().map_err(|error| error.to_string())?;
            conf.local_names(text).map(|names| names.candidates).map_err(|error| error.to_string())
        })
    }
}

/// One place that may have an image, and the client for it.
pub(crate) struct Place {
    /// The name that the image is recorded under.
    pub(crate) name: Reference,
    /// Its name at the place.
    pub(crate) reference: Reference,
    options: ClientOptions,
    client: OnceLock<Client>,
}

impl Place {
    pub(crate) fn client(&self) -> Result<&Client> {
        match self.client.get() {
            Some(client) => Ok(client),
            None => {
                let client = Client::new(self.options.clone())?;
                Ok(self.client.get_or_init(|| client))
            }
        }
    }
}

impl Place {
    /// The client for this place alone.
    pub(crate) fn into_client(self) -> Result<Client> {
        match self.client.into_inner() {
            Some(client) => Ok(client),
            None => Ok(Client::new(self.options)?),
        }
    }
}

/// The places that may have an image, in order; the first that resolves its name is the chosen one.
pub(crate) struct Places {
    places: Vec<Place>,
    chosen: OnceLock<usize>,
}

impl Places {
    /// The chosen place; before [`resolve`](Self::resolve), the last.
    pub(crate) fn chosen(&self) -> &Place {
        &self.places[self.chosen.get().copied().unwrap_or(self.places.len() - 1)]
    }

    /// Asks one place after the other for the manifest or index.
    pub(crate) fn resolve(&self) -> Result<Fetched> {
        let (index, fetched) =
            attempt(self.places.iter().enumerate(), &mut |client, reference| client.resolve(reference))?;
        self.chosen.get_or_init(|| index);
        Ok(fetched)
    }

    /// Fetches something by its digest from the chosen place, or from those behind it that have the same image.
    pub(crate) fn fetch<T>(&self, get: Get<'_, T>) -> Result<T> {
        let chosen = self.chosen();
        let first = self.chosen.get().copied().unwrap_or_default();
        let same = self.places.iter().enumerate().skip(first).filter(|(_, place)| place.name == chosen.name);
        Ok(attempt(same, get)?.1)
    }
}

type Get<'a, T> = &'a mut dyn FnMut(&Client, &Reference) -> carrack_distribution::Result<T>;

/// Tries one place after the other. What fails on this side ends it; all other failures are told together.
fn attempt<'a, T>(places: impl Iterator<Item = (usize, &'a Place)>, get: Get<'_, T>) -> Result<(usize, T)> {
    let mut attempts: Vec<(String, Error)> = Vec::new();
    for (index, place) in places {
        match get(place.client()?, &place.reference) {
            Ok(got) => return Ok((index, got)),
            Err(error) if error.class() == Class::Local => return Err(error.into()),
            Err(error) => {
                tracing::info!(%error, place = %place.reference, "cannot fetch from one place");
                attempts.push((place.reference.to_string(), error.into()));
            }
        }
    }
    // One place has its error as it is: its name is the user's own.
    Err(match attempts.len() {
        1 => attempts.remove(0).1,
        _ => Error::Places { attempts },
    })
}

impl Engine {
    /// The user's credentials: the auth file, and the helpers that registries.conf names.
    pub(crate) fn keychain(&self) -> Result<Keychain> {
        let file = AuthFile::load(&self.environment.auth_file)?;
        Ok(Keychain::new(file, self.registries.conf()?.credential_sources()))
    }

    /// What an image's name may stand for when it is pulled.
    pub(crate) fn image_names(&self, text: &str) -> Result<Names> {
        Ok(self.registries.conf()?.names(text)??)
    }

    /// Where the first of `names` that there is may be pulled from.
    pub(crate) fn pull_places(&self, names: &[Reference]) -> Result<Places> {
        let conf = self.registries.conf()?;
        let mut places = Vec::new();
        let mut blocked = None;
        for name in names {
            match conf.pull_endpoints(name) {
                Ok(endpoints) => {
                    for endpoint in endpoints {
                        places.push(self.place(name, endpoint)?);
                    }
                }
                // Another of the search registries may have it.
                Err(error @ carrack_distribution::Error::Blocked { .. }) => blocked = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(error) = blocked.filter(|_| places.is_empty()) {
            return Err(error.into());
        }
        let last = places.len() - 1;
        for place in &mut places[..last] {
            let retry = &mut place.options.retry;
            *retry = RetryPolicy { attempts: MIRROR_ATTEMPTS, ..retry.clone() };
            place.options.timeouts.connect = MIRROR_CONNECT_TIMEOUT;
        }
        Ok(Places { places, chosen: OnceLock::new() })
    }

    /// Where an image of this name is pushed to.
    pub(crate) fn push_place(&self, name: &Reference) -> Result<Place> {
        let endpoint = self.registries.conf()?.push_endpoint(name)?;
        self.place(name, endpoint)
    }

    /// A client for one registry as it is, without mirrors.
    pub(crate) fn client_of_registry(&self, registry: &str) -> Result<Client> {
        let registry = carrack_distribution::registry_name(registry)?;
        let insecure = self.registries.conf()?.is_insecure(&registry)?;
        Ok(Client::new(self.options_for(&registry, insecure)?)?)
    }

    fn place(&self, name: &Reference, endpoint: Endpoint) -> Result<Place> {
        let options = self.options_for(endpoint.reference.repository().registry(), endpoint.insecure)?;
        Ok(Place { name: name.clone(), reference: endpoint.reference, options, client: OnceLock::new() })
    }

    fn options_for(&self, registry: &str, insecure: bool) -> Result<ClientOptions> {
        let mut options = self.client_options()?;
        let access = &self.environment.registry_access;
        let insecure = access.tls_verify.map_or(insecure, |verify| !verify);
        match &mut options.plain_http {
            PlainHttp::Hosts(hosts) if insecure => hosts.push(registry.to_owned()),
            plain_http if access.tls_verify == Some(true) => *plain_http = PlainHttp::Never,
            _ => {}
        }
        // Asked for on the command line, it is for all hosts that the registry leads to.
        options.skip_tls_verify = access.tls_verify == Some(false);
        let certificates = match &access.certificates {
            Some(folder) => HostCertificates::load(folder)?,
            None => HostCertificates::find(&self.environment.registry_files.certificates, registry)?,
        };
        options.extra_ca_files.extend(certificates.authorities);
        options.registry = Some(OneRegistry {
            name: registry.to_owned(),
            skip_tls_verify: insecure,
            identities: certificates.identities,
        });
        Ok(options)
    }
}
