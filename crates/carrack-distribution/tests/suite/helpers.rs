//! Credential helpers: scripts that stand for real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use carrack_distribution::{AuthFile, Credential, Secret};

fn install(folder: &Path, name: &str, script: &str) {
    let path = folder.join(format!("docker-credential-{name}"));
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn auth_file(folder: &Path, document: &str) -> AuthFile {
    let path = folder.join("config.json");
    fs::write(&path, document).unwrap();
    let search_path = format!("{}:/usr/bin:/bin", folder.display());
    AuthFile::load(&path).unwrap().with_helper_path(search_path.into())
}

/// Keeps one entry in a file beside itself.
const KEEPER: &str = r#"cd "$(dirname "$0")"
case "$1" in
  store) cat > kept ;;
  get) cat > asked; [ -f kept ] && exec cat kept; echo "credentials not found in native keychain"; exit 1 ;;
  erase) rm kept ;;
esac"#;

#[test]
fn stores_gets_and_erases_by_the_helper() {
    let folder = tempfile::tempdir().unwrap();
    install(folder.path(), "keeper", KEEPER);
    let mut file = auth_file(folder.path(), r#"{"credsStore": "keeper"}"#);
    let credential = Credential::Basic { user: "joe".to_owned(), password: Secret::new("s\"e\\cret") };
    assert_eq!(file.credential("docker.io").unwrap(), None);
    file.store("docker.io", &credential).unwrap();
    assert_eq!(file.credential("docker.io").unwrap(), Some(credential));
    let text = fs::read_to_string(folder.path().join("config.json")).unwrap();
    assert!(text.contains("https://index.docker.io/v1/") && !text.contains("cret"), "{text}");
    let kept = fs::read_to_string(folder.path().join("kept")).unwrap();
    assert!(kept.contains(r#""ServerURL":"https://index.docker.io/v1/""#), "{kept}");
    assert_eq!(fs::read_to_string(folder.path().join("asked")).unwrap(), "https://index.docker.io/v1/");
    assert!(file.erase("docker.io").unwrap());
    assert_eq!(file.credential("docker.io").unwrap(), None);
}

#[test]
fn a_registry_may_have_its_own_helper_and_identity_tokens() {
    let folder = tempfile::tempdir().unwrap();
    install(folder.path(), "own", r#"echo '{"ServerURL":"x","Username":"<token>","Secret":"it"}'"#);
    let document = r#"{"credsStore": "absent", "credHelpers": {"host.example:5000": "own"}}"#;
    let file = auth_file(folder.path(), document);
    let found = file.credential("host.example:5000").unwrap();
    assert_eq!(found, Some(Credential::IdentityToken(Secret::new("it"))));
    let error = file.credential("other.example").unwrap_err().to_string();
    assert!(error.contains("docker-credential-absent"), "{error}");
}

#[test]
fn a_failing_or_flooding_helper_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for (script, expected) in [
        ("echo locked; exit 3", "locked"),
        ("exit 3", "exit status: 3"),
        ("echo '{\"Secret\": \"hidden\"'", "not a credential"),
        ("exec cat /dev/zero", "larger than 65536 bytes"),
    ] {
        install(folder.path(), "bad", script);
        let error = auth_file(folder.path(), r#"{"credsStore": "bad"}"#).credential("a.example").unwrap_err();
        let error = error.to_string();
        assert!(error.contains(expected) && !error.contains("hidden"), "{error}");
    }
}
