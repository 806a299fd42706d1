//! The engine: the stores that all operations share, and the lock between operations and garbage collection.

use std::path::PathBuf;
use std::sync::Arc;

use carrack_container::secrets::SecretStore;
use carrack_container::{ContainerStore, VolumeStore};
use carrack_content::ContentStore;
use carrack_distribution::{Client, ClientOptions, PlainHttp, Proxies, RegistryFiles};
use carrack_image::{ImageStore, LayerOrigins, ListStore};
use carrack_snapshot::{Choice, Snapshots};
use carrack_sys::lock::Lock;
use serde::{Deserialize, Serialize};

use crate::registries::Registries;
use crate::{Paths, RegistryAccess, Result, Settings};

/// What the binary found in its environment: libraries do not look there themselves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Environment {
    /// Where the stores are.
    pub paths: Paths,
    /// The settings in force.
    pub settings: Settings,
    /// Docker's `config.json` with the credentials of registries.
    pub auth_file: PathBuf,
    /// The proxies of the user's environment.
    pub proxies: ProxySettings,
    /// Where the configuration of the containers tools is.
    pub registry_files: RegistryFiles,
    /// What the user said about registries on the command line.
    pub registry_access: RegistryAccess,
}

/// HTTP proxies, as in the variables `http_proxy`, `https_proxy` and `no_proxy`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ProxySettings {
    /// For `http://` URLs.
    pub http: Option<String>,
    /// For `https://` URLs.
    pub https: Option<String>,
    /// Hosts that are reached directly.
    pub no_proxy: Option<String>,
}

/// All stores of one root, and the operations on them (one file of this crate each).
pub struct Engine {
    pub(crate) environment: Environment,
    pub(crate) content: ContentStore,
    pub(crate) images: ImageStore,
    pub(crate) lists: ListStore,
    pub(crate) origins: LayerOrigins,
    pub(crate) snapshots: Box<dyn Snapshots>,
    pub(crate) driver: Choice,
    pub(crate) containers: ContainerStore,
    pub(crate) volumes: VolumeStore,
    pub(crate) secrets: SecretStore,
    pub(crate) registries: Arc<Registries>,
}

impl Engine {
    /// Opens the stores, making what is missing.
    pub fn open(mut environment: Environment) -> Result<Self> {
        environment.paths = environment.paths.prepare()?;
        let Paths { root, runroot } = &environment.paths;
        let registries = Arc::new(Registries::new(environment.registry_files.clone()));
        let (snapshots, shares) = (root.join("snapshots"), runroot.join("mounts"));
        let driver = Choice::make(environment.settings.storage.driver, &snapshots)?;
        let content = ContentStore::open(&root.join("content"))?;
        Ok(Self {
            snapshots: driver.driver.open(&snapshots, &content, &shares)?,
            driver,
            content,
            images: ImageStore::open(&root.join("images"))?
                .with_short_names(registries.short_names())
                .with_history(environment.settings.images.history),
            lists: ListStore::new(root.join("manifests")),
            origins: LayerOrigins::open(&root.join("layer-origins"))?,
            containers: ContainerStore::open(root, runroot)?,
            volumes: VolumeStore::new(root.join("volumes")),
            secrets: SecretStore::new(root.join("secrets")),
            registries,
            environment,
        })
    }

    /// Held by every operation that writes content or snapshots before it names them; garbage collection waits
    /// for it, or goes without.
    pub(crate) fn operation(&self) -> Result<Lock> {
        Ok(Lock::shared(&self.operations_lock())?)
    }

    pub(crate) fn operations_lock(&self) -> PathBuf {
        self.environment.paths.root.join("operations.lock")
    }

    /// Where each storage driver has a folder.
    pub(crate) fn snapshots_folder(&self) -> PathBuf {
        self.environment.paths.root.join("snapshots")
    }

    /// Where processes say which mounts of images they hold.
    pub(crate) fn shares_folder(&self) -> PathBuf {
        self.environment.paths.runroot.join("mounts")
    }

    /// A client for downloads, with the user's settings.
    pub(crate) fn registry_client(&self) -> Result<Client> {
        Ok(Client::new(self.client_options()?)?)
    }

    /// What holds for all registries, with the user's credentials and settings.
    pub(crate) fn client_options(&self) -> Result<ClientOptions> {
        let registries = &self.environment.settings.registries;
        let proxies = self.environment.proxies.clone();
        let user_agent = concat!("carrack/", env!("CARGO_PKG_VERSION"));
        Ok(ClientOptions {
            plain_http: PlainHttp::Hosts(registries.insecure.clone()),
            extra_ca_files: registries.certificate_authorities.clone(),
            proxies: Proxies { http: proxies.http, https: proxies.https, no_proxy: proxies.no_proxy },
            ..ClientOptions::new(user_agent, self.keychain()?)
        })
    }
}
