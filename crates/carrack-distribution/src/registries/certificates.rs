//! containers-certs.d(5), and Docker's folder of the same form: certificates for one registry.
//!
//! Invariant: a certificate without its key, or a key without its certificate, is an error, not a login without it.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;

use crate::{Error, Result};

/// A client certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those between it and its authority, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// The certificates of one folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostCertificates {
    /// `*.crt`: authorities that vouch for the registry, beside those of the system.
    pub authorities: Vec<PathBuf>,
    /// `*.cert` and `*.key`: who we are.
    pub identities: Vec<Identity>,
}

impl HostCertificates {
    /// What the first of `folders` that has a folder for the registry has in it (`HOST[:PORT]`).
    pub fn find(folders: &[PathBuf], registry: &str) -> Result<Self> {
        // A registry's name has neither slashes nor a leading dot.
        for folder in folders.iter().map(|folder| folder.join(registry)) {
            match std::fs::metadata(&folder) {
                Ok(_) => return Self::load(&folder),
                Err(error) if is_passed_over(error.kind()) => {}
                Err(error) => return Err(error).during("read", &folder).map_err(Error::from),
            }
        }
        Ok(Self::default())
    }

    /// The certificates in `folder`. A folder that the user may not read has none, as for the containers tools.
    pub fn load(folder: &Path) -> Result<Self> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if is_passed_over(error.kind()) => {
                tracing::debug!(%error, folder = %folder.display(), "certificates are passed over");
                return Ok(Self::default());
            }
            entries => entries.during("read", folder)?,
        };
        let mut files = BTreeSet::new();
        for entry in entries {
            files.insert(entry.during("read", folder)?.path());
        }
        let mut found = Self::default();
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let fail = |reason: String| Error::Certificates { folder: folder.to_owned(), reason };
        for file in &files {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => found.authorities.push(file.clone()),
                Some("cert") => {
                    let key = file.with_extension("key");
                    if !files.contains(&key) {
                        let reason = format!(
                            "the client certificate {} has no key {}; an authority's name ends in .crt",
                            name(file),
                            name(&key)
                        );
                        return Err(fail(reason));
                    }
                    found.identities.push(Identity { certificate: file.clone(), key });
                }
                Some("key") if !files.contains(&file.with_extension("cert")) => {
                    let certificate = file.with_extension("cert");
                    return Err(fail(format!(
                        "the key {} has no certificate {}",
                        name(file),
                        name(&certificate)
                    )));
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

fn is_passed_over(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    #[test]
    fn the_first_folder_that_knows_the_registry_is_used() {
        let folder = folder_with(&[
            "one/other.example/ca.crt",
            "two/a.example:5000/ca.crt",
            "two/a.example:5000/b.crt",
            "two/a.example:5000/client.cert",
            "two/a.example:5000/client.key",
            "two/a.example:5000/readme.txt",
            "three/a.example:5000/no.crt",
        ]);
        let at = |name: &str| folder.path().join(name);
        let folders = [at("absent"), at("one"), at("two"), at("three")];
        let found = HostCertificates::find(&folders, "a.example:5000").unwrap();
        let own = at("two/a.example:5000");
        assert_eq!(found.authorities, [own.join("b.crt"), own.join("ca.crt")]);
        let identity = Identity { certificate: own.join("client.cert"), key: own.join("client.key") };
        assert_eq!(found.identities, [identity]);
        assert_eq!(HostCertificates::find(&folders, "a.example").unwrap(), HostCertificates::default());
    }

    #[test]
    fn half_a_pair_is_an_error() {
        for (name, part) in
            [("client.cert", "no key client.key"), ("client.key", "no certificate client.cert")]
        {
            let folder = folder_with(&[name]);
            let error = HostCertificates::load(folder.path()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
