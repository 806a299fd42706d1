//! Docker's `config.json` (Podman's `auth.json` has the same shape, containers-auth.json(5)): credentials by registry,
//! or by a part of its repositories.
//!
//! Invariant: keys that are not ours survive a change, and the file is never readable by others or half written.
//! Layout: `{"auths": {"<registry>": {"auth": base64("user:password"), "identitytoken": ".."}}, "credsStore": "<helper>",
//! "credHelpers": {"<registry>": "<helper>"}}`.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrack_sys::atomic::{self, Durability};
use carrack_sys::lock::Lock;
use serde_json::{Map, Value, json};

use crate::helper::Helper;
use crate::login::registry_name;
use crate::{Error, Result, Secret};

const MAX_FILE_BYTES: u64 = 1 << 20;
/// Docker Hub's key since its first days.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// What proves who the user is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A user name and a password (or a token that is used as one).
    Basic {
        /// The user name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token that is traded for access tokens (OAuth2 "refresh token").
    IdentityToken(Secret),
}

/// An auth file, read once; changes go to the file at once.
#[derive(Clone)]
pub struct AuthFile {
    path: Option<PathBuf>,
    document: Map<String, Value>,
    helper_path: Option<OsString>,
}

impl AuthFile {
    /// No file and no credentials: every request is anonymous.
    pub fn none() -> Self {
        Self { path: None, document: Map::new(), helper_path: None }
    }

    /// Reads the file at `path`; one that does not exist has no credentials, and is made by [`store`](Self::store).
    pub fn load(path: &Path) -> Result<Self> {
        let document = read(path)?;
        Ok(Self { path: Some(path.to_owned()), document, helper_path: None })
    }

    /// Looks credential helpers up in these folders (as in PATH) instead of the process's own PATH.
    #[must_use]
    pub fn with_helper_path(mut self, path: OsString) -> Self {
        self.helper_path = Some(path);
        self
    }

    /// The credential for `name`, a registry (as it is named in references) or a repository of it: from the registry's
    /// helper, else from the entry of the file whose key is the longest part of the name.
    pub fn credential(&self, name: &str) -> Result<Option<Credential>> {
        let registry = name.split_once('/').map_or(name, |(registry, _)| registry);
        if let Some(helper) = self.helper(registry)? {
            let found = helper.get(key_of(registry))?;
            // What the file says of a registry that has its own helper does not count.
            if found.is_some() || self.own_helper(registry).is_some() {
                return Ok(found);
            }
        }
        for part in narrowing(name) {
            if let Some(entry) = self.document.get("auths").and_then(|auths| auths.get(part))
                && let Some(credential) = self.parse_entry(part, entry)?
            {
                return Ok(Some(credential));
            }
        }
        for (_, entry) in self.entries(registry) {
            if let Some(credential) = self.parse_entry(registry, entry)? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }

    /// The registries that the file names, for a list of logins.
    pub fn registries(&self) -> Vec<String> {
        let mut names: Vec<String> = self.auths().filter_map(|(key, _)| registry_name(key).ok()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Keeps the credential of a registry, in its helper where one is configured.
    pub fn store(&mut self, registry: &str, credential: &Credential) -> Result<()> {
        let registry = registry_name(registry)?;
        let entry = match self.helper(&registry)? {
            Some(helper) => {
                helper.store(key_of(&registry), credential)?;
                // As Docker does: the file lists the registry, the helper has the secret.
                json!({})
            }
            None => file_entry(credential),
        };
        self.change(|document| {
            let auths = document.entry("auths").or_insert_with(|| json!({}));
            let Some(auths) = auths.as_object_mut() else { return };
            auths.retain(|key, _| !names(key, &registry));
            auths.insert(key_of(&registry).to_owned(), entry);
        })
    }

    /// Forgets the credential of a registry; returns whether the file had named it, or its helper kept it.
    pub fn erase(&mut self, registry: &str) -> Result<bool> {
        let registry = registry_name(registry)?;
        let is_named = self.entries(&registry).next().is_some();
        let was_kept = match self.helper(&registry)? {
            Some(helper) => helper.erase_if_kept(key_of(&registry))?,
            None => false,
        };
        if is_named {
            self.change(|document| {
                if let Some(auths) = document.get_mut("auths").and_then(Value::as_object_mut) {
                    auths.retain(|key, _| !names(key, &registry));
                }
            })?;
        }
        Ok(is_named || was_kept)
    }

    /// Where helpers are looked up, if not on the process's own PATH.
    pub(crate) fn helper_path(&self) -> Option<&OsString> {
        self.helper_path.as_ref()
    }

    fn auths(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.document.get("auths").and_then(Value::as_object).into_iter().flatten()
    }

    fn entries(&self, registry: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.auths().filter(move |(key, _)| names(key, registry))
    }

    fn helper(&self, registry: &str) -> Result<Option<Helper<'_>>> {
        let of_all =
            || self.document.get("credsStore").and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = self.own_helper(registry).or_else(of_all);
        name.map(|name| Helper::new(name, self.helper_path())).transpose()
    }

    /// The helper that `credHelpers` has for one registry.
    fn own_helper(&self, registry: &str) -> Option<&str> {
        let own = self.document.get("credHelpers").and_then(Value::as_object).into_iter().flatten();
        let own = own.filter(|(key, _)| names(key, registry)).map(|(_, name)| name).next();
        own.and_then(Value::as_str).filter(|name| !name.is_empty())
    }

    fn parse_entry(&self, registry: &str, entry: &Value) -> Result<Option<Credential>> {
        let text = |key| entry.get(key).and_then(Value::as_str).filter(|text: &&str| !text.is_empty());
        if let Some(token) = text("identitytoken") {
            return Ok(Some(Credential::IdentityToken(Secret::new(token))));
        }
        if let Some(auth) = text("auth") {
            let broken = || self.broken(format!("the entry of {registry} is not base64 of user:password"));
            let decoded = STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let decoded = decoded.ok_or_else(broken)?;
            let (user, password) = decoded.split_once(':').ok_or_else(broken)?;
            // Old Docker versions padded the password.
            let password = Secret::new(password.trim_end_matches('\0'));
            return Ok(Some(Credential::Basic { user: user.to_owned(), password }));
        }
        let (Some(user), Some(password)) = (text("username"), text("password")) else { return Ok(None) };
        Ok(Some(Credential::Basic { user: user.to_owned(), password: Secret::new(password) }))
    }

    /// Reads the file again under a lock, changes it, and replaces it.
    fn change(&mut self, edit: impl FnOnce(&mut Map<String, Value>)) -> Result<()> {
        let Some(path) = self.path.clone() else {
            edit(&mut self.document);
            return Ok(());
        };
        // A link stays a link: what it leads to is replaced.
        let path = fs::canonicalize(&path).unwrap_or(path);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            atomic::create_private_dir(folder)?;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let _lock = Lock::exclusive(&path.with_file_name(format!(".{name}.lock")))?;
        let mut document = read(&path)?;
        edit(&mut document);
        let mut text =
            serde_json::to_vec_pretty(&document).map_err(|error| self.broken(error.to_string()))?;
        text.push(b'\n');
        atomic::write(&path, &text, 0o600, Durability::Durable)?;
        self.document = document;
        Ok(())
    }

    fn broken(&self, reason: String) -> Error {
        Error::AuthFile { path: self.path.clone().unwrap_or_default(), reason }
    }
}

impl fmt::Debug for AuthFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AuthFile").field("path", &self.path).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Map<String, Value>> {
    let broken = |reason: &str| Error::AuthFile { path: path.to_owned(), reason: reason.to_owned() };
    if fs::metadata(path).is_ok_and(|found| !found.is_file() || found.len() > MAX_FILE_BYTES) {
        return Err(broken("expected a regular file of at most 1 MiB"));
    }
    let bytes = atomic::read(path)?.unwrap_or_default();
    if bytes.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    // Not the parser's own words: they could quote a secret.
    let document: Map<String, Value> =
        serde_json::from_slice(&bytes).map_err(|_| broken("expected a JSON object"))?;
    match document.get("auths") {
        Some(auths) if !auths.is_object() => Err(broken("expected an object under \"auths\"")),
        _ => Ok(document),
    }
}

fn file_entry(credential: &Credential) -> Value {
    match credential {
        Credential::Basic { user, password } => {
            json!({ "auth": STANDARD.encode(format!("{user}:{}", password.expose())) })
        }
        Credential::IdentityToken(token) => json!({ "identitytoken": token.expose() }),
    }
}

/// `host/team/app`, `host/team`: the parts of a name that are narrower than its registry, the longest first.
fn narrowing(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |part| Some(part.rsplit_once('/')?.0)).filter(|part| part.contains('/'))
}

/// The key under which Docker keeps a registry's credential.
fn key_of(registry: &str) -> &str {
    if registry == "docker.io" { DOCKER_HUB_KEY } else { registry }
}

/// Whether a key of the file means `registry`. A key with a path of its own (Podman's `host/team`) is narrower
/// than a registry and does not.
fn names(key: &str, registry: &str) -> bool {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let path = bare.split_once('/').map_or("", |(_, path)| path).trim_end_matches('/');
    matches!(path, "" | "v1" | "v2") && registry_name(key).is_ok_and(|name| name == registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Credential {
        Credential::Basic { user: user.to_owned(), password: Secret::new(password) }
    }

    fn file(text: &str) -> (tempfile::TempDir, AuthFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, text).unwrap();
        let file = AuthFile::load(&path).unwrap();
        (folder, file)
    }

    #[test]
    fn reads_what_docker_writes() {
        let text = format!(
            r#"{{"auths": {{"{DOCKER_HUB_KEY}": {{"auth": "{}"}},
                "http://old.example/v1/": {{"auth": "{}"}},
                "token.example": {{"auth": "", "identitytoken": "it"}},
                "plain.example": {{"username": "u", "password": "p"}},
                "scoped.example/team": {{"auth": "{}"}},
                "empty.example": {{}}}}}}"#,
            STANDARD.encode("joe:a:b"),
            STANDARD.encode("old:pw\0\0"),
            STANDARD.encode("x:y"),
        );
        let (_folder, file) = file(&text);
        let get = |registry| file.credential(registry).unwrap();
        assert_eq!(get("docker.io"), Some(basic("joe", "a:b")));
        assert_eq!(get("old.example"), Some(basic("old", "pw")));
        assert_eq!(get("token.example"), Some(Credential::IdentityToken(Secret::new("it"))));
        assert_eq!(get("plain.example"), Some(basic("u", "p")));
        for none in ["scoped.example", "empty.example", "other.example", "old.example:5000"] {
            assert_eq!(get(none), None, "{none}");
        }
        assert!(!format!("{file:?} {:?}", get("docker.io")).contains("a:b"));
    }

    #[test]
    fn a_part_of_a_registry_has_its_own_credential() {
        let auth = |user: &str| STANDARD.encode(format!("{user}:pw"));
        let (_folder, file) = file(&format!(
            r#"{{"auths": {{"a.example/team/app": {{"auth": "{}"}}, "a.example/team": {{"auth": "{}"}},
                "https://a.example/v1/": {{"auth": "{}"}}, "docker.io/library": {{"auth": "{}"}}}}}}"#,
            auth("app"),
            auth("team"),
            auth("all"),
            auth("library"),
        ));
        for (name, user) in [
            ("a.example/team/app", Some("app")),
            ("a.example/team/app/sub", Some("app")),
            ("a.example/team/apple", Some("team")),
            ("a.example/teams", Some("all")),
            ("a.example", Some("all")),
            ("docker.io/library/app", Some("library")),
            ("docker.io/other/app", None),
            ("b.example/team/app", None),
        ] {
            assert_eq!(file.credential(name).unwrap(), user.map(|user| basic(user, "pw")), "{name}");
        }
    }

    #[test]
    fn stores_and_erases_beside_foreign_keys() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, mut file) =
            file(r#"{"HttpHeaders": {"a": "b"}, "auths": {"https://one.example/v1/": {}}}"#);
        file.store("one.example", &basic("u", "p")).unwrap();
        file.store("https://index.docker.io/v1/", &Credential::IdentityToken(Secret::new("t"))).unwrap();
        let path = folder.path().join("config.json");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = AuthFile::load(&path).unwrap();
        assert_eq!(again.registries(), ["docker.io", "one.example"]);
        assert_eq!(again.credential("one.example").unwrap(), Some(basic("u", "p")));
        assert_eq!(again.document["HttpHeaders"]["a"], "b");
        assert!(file.erase("one.example").unwrap());
        assert!(!file.erase("one.example").unwrap());
        assert_eq!(AuthFile::load(&path).unwrap().registries(), ["docker.io"]);
    }

    #[test]
    fn a_link_to_the_file_stays_a_link() {
        let (folder, _) = file("{}");
        let link = folder.path().join("link.json");
        std::os::unix::fs::symlink("config.json", &link).unwrap();
        AuthFile::load(&link).unwrap().store("one.example", &basic("u", "p")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let target = AuthFile::load(&folder.path().join("config.json")).unwrap();
        assert_eq!(target.registries(), ["one.example"]);
    }

    #[test]
    fn a_broken_file_is_an_error_that_quotes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        for text in ["[]", "{\"auths\": 1}", "{\"secret", "{\"auths\": \"secret\"}"] {
            fs::write(&path, text).unwrap();
            let error = AuthFile::load(&path).unwrap_err().to_string();
            assert!(error.contains("config.json") && !error.contains("secret"), "{error}");
        }
        assert!(AuthFile::load(Path::new("/dev/zero")).is_err());
        fs::write(&path, r#"{"auths": {"a.example": {"auth": "%%%"}}}"#).unwrap();
        assert!(AuthFile::load(&path).unwrap().credential("a.example").is_err());
    }

    #[test]
    fn helpers_are_plain_names() {
        for name in ["../evil", "/bin/sh", "a b", "a/b", "a\n", &"x".repeat(65)] {
            let document = json!({ "credsStore": name });
            let file = AuthFile { document: document.as_object().unwrap().clone(), ..AuthFile::none() };
            assert!(
                matches!(file.credential("a.example"), Err(Error::Helper { .. })),
                "{name:?} was accepted"
            );
        }
    }
}
