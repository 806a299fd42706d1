//! All registries.conf files of a system, merged in their order.
//!
//! Invariant: of one prefix or alias, the file that is read last holds; the order is that of
//! containers-registries.conf.d(5).

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use serde::{Deserialize, Serialize};

use super::file::{Alias, ConfFile, Registry, ShortNameMode};
use crate::{CredentialSource, Error, Result};

/// Where the configuration of the containers tools is looked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RegistryFiles {
    /// The one registries.conf to read, in place of all others; it must exist.
    pub only: Option<PathBuf>,
    /// The user's folder with a registries.conf, which replaces the system's, and a registries.conf.d.
    pub user: Option<PathBuf>,
    /// The system's folder of the same kind.
    pub system: Option<PathBuf>,
    /// Aliases that another tool recorded when it asked its user; they win over all others.
    pub recorded_aliases: Option<PathBuf>,
    /// Folders with a folder of certificates a registry, as in `certs.d/HOST:PORT`; the first that has one is used.
    pub certificates: Vec<PathBuf>,
}

/// What the containers tools are configured to do with registries.
#[derive(Clone, Debug, Default)]
pub struct RegistriesConf {
    pub(super) registries: BTreeMap<String, Registry>,
    pub(super) search: Vec<String>,
    /// The file that has the search registries.
    pub(super) search_file: PathBuf,
    pub(super) mode: ShortNameMode,
    pub(super) aliases: BTreeMap<String, Alias>,
    pub(super) credential_sources: Vec<CredentialSource>,
}

impl RegistriesConf {
    /// Reads all files that there are; without any, nothing is configured.
    pub fn load(files: &RegistryFiles) -> Result<Self> {
        let mut conf = Self::default();
        if let Some(only) = &files.only {
            let reason = "it does not exist".to_owned();
            let file = ConfFile::read(only)?.ok_or(Error::RegistriesConf { file: only.clone(), reason })?;
            conf.update(only, file);
            return Ok(conf);
        }
        let has_own = conf.add(files.user.as_deref().map(|folder| folder.join("registries.conf")))?;
        let mut drop_in_folders = vec![&files.user];
        if !has_own {
            conf.add(files.system.as_deref().map(|folder| folder.join("registries.conf")))?;
            drop_in_folders.insert(0, &files.system);
        }
        for folder in drop_in_folders.into_iter().flatten() {
            for file in drop_ins(&folder.join("registries.conf.d"))? {
                conf.add(Some(file))?;
            }
        }
        conf.add(files.recorded_aliases.clone())?;
        Ok(conf)
    }

    /// `credential-helpers`: where credentials are looked for, in order; empty where no file says it.
    pub fn credential_sources(&self) -> &[CredentialSource] {
        &self.credential_sources
    }

    /// Reads a file on top of what is known; tells whether it exists.
    fn add(&mut self, path: Option<PathBuf>) -> Result<bool> {
        let Some(path) = path else { return Ok(false) };
        let Some(file) = ConfFile::read(&path)? else { return Ok(false) };
        self.update(&path, file);
        Ok(true)
    }

    fn update(&mut self, path: &Path, file: ConfFile) {
        let by_prefix = file.registries.into_iter().map(|registry| (registry.prefix.clone(), registry));
        self.registries.extend(by_prefix);
        if let Some(search) = file.search {
            self.search = search;
            self.search_file = path.to_owned();
        }
        self.mode = file.mode.unwrap_or(self.mode);
        self.aliases.extend(file.aliases);
        if let Some(sources) = file.credential_sources {
            self.credential_sources = sources;
        }
    }
}

/// The `*.conf` files of a folder by name; folders in it are not looked into.
fn drop_ins(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.during("read", folder)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.during("read", folder)?.path();
        if path.extension().is_some_and(|extension| extension == "conf") && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files, and a configuration that looks for them.
    fn folder_with(files: &[(&str, &str)]) -> (tempfile::TempDir, RegistryFiles) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let places = RegistryFiles {
            user: Some(folder.path().join("user")),
            system: Some(folder.path().join("system")),
            recorded_aliases: Some(folder.path().join("recorded.conf")),
            ..RegistryFiles::default()
        };
        (folder, places)
    }

    fn search(name: &str) -> String {
        format!("unqualified-search-registries = [\"{name}\"]\n")
    }

    #[test]
    fn drop_ins_come_in_order_of_names_and_the_users_last() {
        let (_folder, places) = folder_with(&[
            ("system/registries.conf", &format!("{}[aliases]\na = \"one.example/a\"", search("one.example"))),
            ("system/registries.conf.d/20.conf", &search("three.example")),
            ("system/registries.conf.d/10.conf", &search("two.example")),
            ("system/registries.conf.d/30.conf.bak", "no toml"),
            ("system/registries.conf.d/40.conf/x", "a folder"),
            ("user/registries.conf.d/05.conf", "[aliases]\na = \"own.example/a\"\nb = \"own.example/b\""),
            ("recorded.conf", "[aliases]\nb = \"recorded.example/b\""),
        ]);
        let conf = RegistriesConf::load(&places).unwrap();
        assert_eq!(conf.search, ["three.example"]);
        assert!(conf.search_file.ends_with("20.conf"), "{}", conf.search_file.display());
        let alias = |name: &str| conf.aliases[name].repository.as_ref().unwrap().to_string();
        assert_eq!((alias("a"), alias("b")), ("own.example/a".to_owned(), "recorded.example/b".to_owned()));
    }

    #[test]
    fn the_users_file_replaces_all_of_the_systems() {
        let (_folder, places) = folder_with(&[
            ("system/registries.conf", "broken"),
            ("system/registries.conf.d/10.conf", "broken"),
            ("user/registries.conf", &search("own.example")),
            ("user/registries.conf.d/10.conf", "short-name-mode = \"disabled\""),
        ]);
        let conf = RegistriesConf::load(&places).unwrap();
        assert_eq!((&conf.search[..], conf.mode), (&["own.example".to_owned()][..], ShortNameMode::Disabled));
    }

    #[test]
    fn the_only_file_is_the_only_one_and_must_exist() {
        let (folder, places) = folder_with(&[
            ("system/registries.conf", "broken"),
            ("recorded.conf", "broken"),
            ("only.conf", &search("only.example")),
        ]);
        let only = |name: &str| RegistryFiles { only: Some(folder.path().join(name)), ..places.clone() };
        assert_eq!(RegistriesConf::load(&only("only.conf")).unwrap().search, ["only.example"]);
        let error = RegistriesConf::load(&only("absent.conf")).unwrap_err().to_string();
        assert!(error.contains("absent.conf: it does not exist"), "{error}");
        let error = RegistriesConf::load(&places).unwrap_err().to_string();
        assert!(error.contains("system/registries.conf"), "{error}");
        assert!(RegistriesConf::load(&RegistryFiles::default()).unwrap().search.is_empty());
    }

    #[test]
    fn credential_helpers_are_those_of_the_last_file_that_has_them() {
        let (_folder, places) = folder_with(&[
            ("system/registries.conf", "credential-helpers = [\"one\"]"),
            ("system/registries.conf.d/10.conf", "credential-helpers = [\"two\", \"containers-auth.json\"]"),
            ("system/registries.conf.d/20.conf", "short-name-mode = \"disabled\""),
        ]);
        let conf = RegistriesConf::load(&places).unwrap();
        let two = CredentialSource::Helper("two".to_owned());
        assert_eq!(conf.credential_sources(), [two, CredentialSource::AuthFile]);
        assert_eq!(RegistriesConf::load(&RegistryFiles::default()).unwrap().credential_sources(), []);
    }

    #[test]
    fn an_empty_search_list_takes_the_earlier_one_back() {
        let (_folder, places) = folder_with(&[
            ("system/registries.conf", &search("one.example")),
            ("system/registries.conf.d/10.conf", "unqualified-search-registries = []"),
            ("system/registries.conf.d/20.conf", "[[registry]]\nlocation = \"a.example\"\nblocked = true"),
            ("system/registries.conf.d/30.conf", "[[registry]]\nlocation = \"a.example\""),
        ]);
        let conf = RegistriesConf::load(&places).unwrap();
        assert!(conf.search.is_empty());
        assert!(!conf.registries["a.example"].blocked, "the later table replaces the earlier one");
    }
}
