//! What is allowed for one registry: certificates that nobody vouches for, and certificates of our own.

use std::fs;
use std::path::Path;
use std::process::Command;

use carrack_distribution::{
    AuthFile, Class, Client, ClientOptions, Error, HostCertificates, Identity, OneRegistry, PlainHttp,
};

use crate::peer::{Registry, make_certificate};
use crate::server::{Reply, Server};
use crate::{options, reference};

/// A registry over TLS with a certificate of its own making.
fn untrusted() -> Registry {
    let folder = tempfile::tempdir().unwrap();
    make_certificate(folder.path(), "127.0.0.1", "FALSE");
    Registry::start_in(folder, "  tls: {certificate: @/cert.pem, key: @/key.pem}", "")
}

fn options_for(host: &str, skip_tls_verify: bool, identities: Vec<Identity>) -> ClientOptions {
    let registry = Some(OneRegistry { name: host.to_owned(), skip_tls_verify, identities });
    ClientOptions { registry, ..options(AuthFile::none()) }
}

fn resolve(options: ClientOptions, host: &str) -> Error {
    Client::new(options).unwrap().resolve(&reference(&format!("{host}/app"))).unwrap_err()
}

#[test]
fn an_insecure_registry_needs_no_trusted_certificate() {
    let registry = untrusted();
    let error = resolve(options_for(&registry.host, false, Vec::new()), &registry.host);
    assert_eq!(error.class(), Class::Tls, "{error}");
    let error = resolve(options_for(&registry.host, true, Vec::new()), &registry.host);
    assert_eq!(error.class(), Class::NotFound, "{error}");
}

#[test]
fn where_an_insecure_registry_leads_is_not_insecure_too() {
    let other = untrusted();
    let target = format!("https://{}/v2/app/manifests/latest", other.host);
    let first = Server::start(move |_| Reply::new(307).header("Location", &target));
    let error = resolve(options_for(&first.host(), true, Vec::new()), &first.host());
    assert_eq!(error.class(), Class::Tls, "{error}");
    assert!(error.to_string().contains(&other.host), "{error}");
    // The user's own word for all hosts is another matter.
    let careless = ClientOptions { skip_tls_verify: true, ..options(AuthFile::none()) };
    assert_eq!(resolve(careless, &first.host()).class(), Class::NotFound);
}

#[test]
fn tls_may_be_demanded_on_loopback_too() {
    let server = Server::start(|_| Reply::new(404));
    let strict = ClientOptions { plain_http: PlainHttp::Never, ..options(AuthFile::none()) };
    let error = resolve(strict, &server.host());
    assert!(error.to_string().contains("https://"), "{error}");
    assert!(server.seen().is_empty());
}

/// `NAME.cert` and `NAME.key`, issued by the authority in `NAME-ca.pem`; without extensions it is of X.509 version 1.
fn make_identity(folder: &Path, name: &str, extensions: &str) {
    fs::write(folder.join("extensions"), extensions).unwrap();
    let script = format!(
        "key='ec -pkeyopt ec_paramgen_curve:prime256v1'
        openssl req -x509 -newkey $key -nodes -days 2 -subj /CN={name}-ca -keyout {name}-ca.key -out {name}-ca.pem
        openssl req -newkey $key -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr
        openssl x509 -req -days 2 -in {name}.csr -CA {name}-ca.pem -CAkey {name}-ca.key -CAcreateserial -extfile extensions -out {name}.cert
        mkdir -p only-{name}; cp {name}.cert {name}.key cert.pem only-{name}/; mv only-{name}/cert.pem only-{name}/ca.crt"
    );
    let made = Command::new("sh").args(["-ec", &script]).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn a_registry_gets_the_certificate_that_it_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    make_certificate(folder.path(), "127.0.0.1", "FALSE");
    make_identity(folder.path(), "a-stranger", "");
    make_identity(folder.path(), "member", "basicConstraints = CA:FALSE\n");
    let settings = "  tls: {certificate: @/cert.pem, key: @/key.pem, clientcas: [@/member-ca.pem]}";
    let registry = Registry::start_in(folder, settings, "");
    let attempt = |from: &Path, skip_tls_verify: bool| {
        let found = HostCertificates::load(from).unwrap();
        let options = ClientOptions {
            extra_ca_files: found.authorities,
            ..options_for(&registry.host, skip_tls_verify, found.identities)
        };
        resolve(options, &registry.host).class()
    };
    let at = |name: &str| registry.folder.path().join(name);
    assert_eq!(attempt(&at("only-member"), false), Class::NotFound);
    assert_eq!(attempt(&at("only-member"), true), Class::NotFound);
    // Of two, the one is shown that the server's authority has issued, although the other comes first.
    let both = at("both");
    fs::create_dir(&both).unwrap();
    for from in ["only-a-stranger", "only-member"] {
        for file in fs::read_dir(at(from)).unwrap().flatten() {
            fs::copy(file.path(), both.join(file.file_name())).unwrap();
        }
    }
    assert_eq!(attempt(&both, false), Class::NotFound);
    for refused in ["only-a-stranger", "absent"] {
        let class = attempt(&at(refused), true);
        assert!(matches!(class, Class::Tls | Class::Unreachable), "{refused}: {class:?}");
    }
}

#[test]
fn a_key_of_another_certificate_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    make_certificate(folder.path(), "127.0.0.1", "FALSE");
    make_identity(folder.path(), "one", "basicConstraints = CA:FALSE\n");
    make_identity(folder.path(), "two", "basicConstraints = CA:FALSE\n");
    let identity =
        Identity { certificate: folder.path().join("one.cert"), key: folder.path().join("two.key") };
    let error = resolve(options_for("host.example", false, vec![identity]), "host.example");
    assert!(error.to_string().contains("one.cert"), "{error}");
    let identity =
        Identity { certificate: folder.path().join("one.cert"), key: folder.path().join("one.cert") };
    let error = resolve(options_for("host.example", false, vec![identity]), "host.example");
    assert!(error.to_string().contains("no PEM private key"), "{error}");
}
