//! Credential helpers: scripts that stand for real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrack_distribution::{AuthFile, Client, Credential, CredentialSource, Keychain, Secret};

use crate::server::{Reply, Server};
use crate::{options, reference};

fn install(folder: &Path, name: &str, script: &str) {
    let path = folder.join(format!("docker-credential-{name}"));
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn auth_file(folder: &Path, document: &str) -> AuthFile {
    fs::write(folder.join("config.json"), document).unwrap();
    load(folder)
}

fn load(folder: &Path) -> AuthFile {
    let search_path = format!("{}:/usr/bin:/bin", folder.display());
    AuthFile::load(&folder.join("config.json")).unwrap().with_helper_path(search_path.into())
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

fn basic(user: &str, password: &str) -> Credential {
    Credential::Basic { user: user.to_owned(), password: Secret::new(password) }
}

fn helper(name: &str) -> CredentialSource {
    CredentialSource::Helper(name.to_owned())
}

#[test]
fn what_the_file_says_of_a_registry_with_its_own_helper_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    install(folder.path(), "keeper", KEEPER);
    let auth = STANDARD.encode("joe:old");
    let entries = format!(
        r#""auths": {{"own.example": {{"auth": "{auth}"}}, "own.example/team": {{"auth": "{auth}"}}}}"#
    );
    let own =
        auth_file(folder.path(), &format!(r#"{{"credHelpers": {{"own.example": "keeper"}}, {entries}}}"#));
    assert_eq!(own.credential("own.example").unwrap(), None);
    assert_eq!(own.credential("own.example/team/app").unwrap(), None);
    let general = auth_file(folder.path(), &format!(r#"{{"credsStore": "keeper", {entries}}}"#));
    assert_eq!(general.credential("own.example").unwrap(), Some(basic("joe", "old")));
}

#[test]
fn sources_are_asked_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    install(folder.path(), "keeper", KEEPER);
    install(folder.path(), "broken", "echo locked; exit 3");
    let document = format!(r#"{{"auths": {{"a.example": {{"auth": "{}"}}}}}}"#, STANDARD.encode("file:pw"));
    let file = || auth_file(folder.path(), &document);
    let helper_first = Keychain::new(file(), &[helper("keeper"), CredentialSource::AuthFile]);
    assert_eq!(helper_first.credential("a.example/team").unwrap(), Some(basic("file", "pw")));
    // The registry's name as it is, not the repository's, and of Docker Hub the name that podman asks for.
    assert_eq!(fs::read_to_string(folder.path().join("asked")).unwrap(), "a.example");
    assert_eq!(helper_first.credential("docker.io/library/app").unwrap(), None);
    assert_eq!(fs::read_to_string(folder.path().join("asked")).unwrap(), "docker.io");

    // A source that fails hides nothing, and is told where nothing is found.
    let broken_first = Keychain::new(file(), &[helper("broken"), CredentialSource::AuthFile]);
    assert_eq!(broken_first.credential("a.example").unwrap(), Some(basic("file", "pw")));
    let error = broken_first.credential("b.example").unwrap_err().to_string();
    assert!(error.contains("docker-credential-broken") && error.contains("locked"), "{error}");
    let without_file = Keychain::new(file(), &[helper("keeper")]);
    assert_eq!(without_file.credential("a.example").unwrap(), None);
    // Nothing configured is the file alone.
    assert_eq!(Keychain::new(file(), &[]).credential("a.example").unwrap(), Some(basic("file", "pw")));
}

#[test]
fn a_login_is_kept_by_the_first_source_that_takes_it_and_forgotten_by_all() {
    let folder = tempfile::tempdir().unwrap();
    install(folder.path(), "keeper", KEEPER);
    install(folder.path(), "broken", "echo locked; exit 3");
    let path = folder.path().join("config.json");
    let mut keychain = Keychain::new(
        auth_file(folder.path(), "{}"),
        &[helper("broken"), helper("keeper"), CredentialSource::AuthFile],
    );
    keychain.store("a.example", &basic("joe", "pw")).unwrap();
    assert!(fs::read_to_string(folder.path().join("kept")).unwrap().contains(r#""ServerURL":"a.example""#));
    assert_eq!(fs::read_to_string(&path).unwrap(), "{}");
    assert_eq!(keychain.credential("a.example").unwrap(), Some(basic("joe", "pw")));

    AuthFile::load(&path).unwrap().store("a.example", &basic("joe", "file")).unwrap();
    let mut keychain =
        Keychain::new(load(folder.path()), &[CredentialSource::AuthFile, helper("absent"), helper("keeper")]);
    let error = keychain.erase("a.example").unwrap_err().to_string();
    assert!(error.contains("docker-credential-absent"), "{error}");
    assert!(!folder.path().join("kept").exists(), "the helper behind the one that fails was asked too");
    assert!(AuthFile::load(&path).unwrap().registries().is_empty());
    let mut all = Keychain::new(auth_file(folder.path(), "{}"), &[helper("keeper")]);
    assert!(!all.erase("a.example").unwrap());
}

/// Two repositories of one registry are asked with the credentials of each.
#[test]
fn a_client_uses_the_credential_of_each_repository() {
    let seen = |user: &str| format!("Basic {}", STANDARD.encode(format!("{user}:pw")));
    let (one, two) = (seen("one"), seen("two"));
    let server = Server::start(move |request| {
        let wanted = if request.path().starts_with("/v2/team/one/") { &one } else { &two };
        match request.header("authorization") {
            Some(got) if got == wanted => {
                Reply::ok(b"{}").header("Content-Type", carrack_oci::media_type::OCI_MANIFEST)
            }
            _ => Reply::new(401).header("WWW-Authenticate", "Basic realm=x"),
        }
    });
    let host = server.host();
    let folder = tempfile::tempdir().unwrap();
    let entry = |user: &str| format!(r#"{{"auth": "{}"}}"#, STANDARD.encode(format!("{user}:pw")));
    let document =
        format!(r#"{{"auths": {{"{host}/team/one": {}, "{host}": {}}}}}"#, entry("one"), entry("two"));
    let client = Client::new(options(auth_file(folder.path(), &document))).unwrap();
    for name in ["team/one", "team/two", "team/one", "other"] {
        client
            .resolve(&reference(&format!("{host}/{name}")))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
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
