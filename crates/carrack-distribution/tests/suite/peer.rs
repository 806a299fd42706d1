//! Debian's docker-registry as the other side: plain, with htpasswd, and over TLS.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use carrack_distribution::{AuthFile, Class, Client, Credential, Pushed, Secret};
use carrack_oci::media_type::{OCI_CONFIG, OCI_MANIFEST};
use carrack_oci::{Descriptor, Manifest, Reference};

use crate::{Sink, anonymous, blob, options, reference, repository};

/// A running docker-registry; killed when dropped.
pub struct Registry {
    child: Child,
    pub host: String,
    pub folder: tempfile::TempDir,
}

impl Registry {
    /// Starts one with these further lines of settings; `@` in them stands for its folder.
    fn start(http: &str, rest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, http, rest)
    }

    pub fn start_in(folder: tempfile::TempDir, http: &str, rest: &str) -> Self {
        // Another process may take the port in between: then the registry ends, and the next port is tried.
        for _ in 0..5 {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let host = listener.local_addr().unwrap().to_string();
            drop(listener);
            let path = folder.path().display().to_string();
            let settings = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {path}/data}}}}\n\
                 http:\n  addr: {host}\n{http}\n{rest}\n"
            );
            let file = folder.path().join("config.yml");
            fs::write(&file, settings.replace('@', &path)).unwrap();
            let log = File::create(folder.path().join("log")).unwrap();
            let mut command = Command::new("docker-registry");
            command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(log);
            let mut child = command.spawn().expect("docker-registry of Debian is needed for this test");
            if wait_until_it_listens(&mut child, &host) {
                return Self { child, host, folder };
            }
        }
        panic!("docker-registry: {}", fs::read_to_string(folder.path().join("log")).unwrap());
    }

    pub fn reference(&self, name: &str) -> Reference {
        reference(&format!("{}/{name}", self.host))
    }
}

fn wait_until_it_listens(child: &mut Child, host: &str) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect(host).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn file_of(folder: &Path, bytes: &[u8]) -> File {
    let path = folder.join("blob");
    fs::write(&path, bytes).unwrap();
    File::open(path).unwrap()
}

/// Pushes an image of one layer, and checks that all of it comes back.
fn round_trip(client: &Client, registry: &Registry) {
    let target = registry.reference("team/app:1");
    let repository = target.repository();
    let (layer, layer_descriptor) = blob(3 << 20);
    let config = br#"{"architecture":"amd64","os":"linux"}"#;
    let config_descriptor = Descriptor::of(OCI_CONFIG, config);
    for (bytes, descriptor) in [(&layer[..], &layer_descriptor), (&config[..], &config_descriptor)] {
        assert!(!client.blob_exists(repository, descriptor).unwrap());
        let open = || Ok(file_of(registry.folder.path(), bytes));
        let push = || client.push_blob(repository, descriptor, &open, &|_| {}).unwrap();
        assert_eq!((push(), push()), (Pushed::Uploaded, Pushed::Exists));
    }
    let manifest = Manifest::oci(config_descriptor.clone(), vec![layer_descriptor.clone()]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let digest = client.put_manifest(repository, "1", OCI_MANIFEST, &manifest).unwrap();
    client.put_manifest(repository, digest.as_str(), OCI_MANIFEST, &manifest).unwrap();

    let fetched = client.resolve(&target).unwrap();
    assert_eq!(fetched.descriptor, Descriptor::of(OCI_MANIFEST, &manifest));
    assert_eq!(client.manifest(repository, &fetched.descriptor).unwrap(), manifest);
    assert_eq!(client.fetch_document(repository, &config_descriptor).unwrap(), config);
    let mut sink = Sink { bytes: layer[..1 << 20].to_vec(), ..Sink::default() };
    client.fetch_blob(repository, &layer_descriptor, &mut sink, &|_| {}).unwrap();
    assert_eq!((sink.bytes == layer, sink.restarts.get()), (true, 0), "resumed by range");
    assert_eq!(client.tags(repository).unwrap(), ["1"]);

    let other = registry.reference("other/app");
    assert!(client.mount_blob(other.repository(), &layer_descriptor.digest, repository).unwrap());
    assert!(client.blob_exists(other.repository(), &layer_descriptor).unwrap());
    let absent = Descriptor::of(OCI_CONFIG, b"absent");
    assert!(!client.mount_blob(other.repository(), &absent.digest, repository).unwrap());
    let absent = client.resolve(&registry.reference("team/app:none")).unwrap_err();
    assert_eq!(absent.class(), Class::NotFound);
    assert!(absent.to_string().contains("MANIFEST_UNKNOWN"), "{absent}");
}

#[test]
fn round_trip_over_plain_http() {
    round_trip(&anonymous(), &Registry::start("", ""));
}

#[test]
fn an_empty_blob_and_parallel_pushes() {
    let registry = Registry::start("", "");
    let client = anonymous();
    std::thread::scope(|scope| {
        for size in [0, 1, 70_000, 2 << 20] {
            let (client, registry) = (&client, &registry);
            scope.spawn(move || {
                let (bytes, descriptor) = blob(size);
                let open = || {
                    let mut file = tempfile::tempfile()?;
                    file.write_all(&bytes)?;
                    file.rewind()?;
                    Ok(file)
                };
                let repository = repository(&registry.host, "parallel");
                let pushed = client.push_blob(&repository, &descriptor, &open, &|_| {}).unwrap();
                assert_eq!(pushed, Pushed::Uploaded, "{size}");
                let mut sink = Sink::default();
                client.fetch_blob(&repository, &descriptor, &mut sink, &|_| {}).unwrap();
                assert_eq!(sink.bytes, bytes);
            });
        }
    });
}

#[test]
fn round_trip_with_htpasswd() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("joe:{}\n", bcrypt::hash("secret", 4).unwrap());
    fs::write(folder.path().join("htpasswd"), line).unwrap();
    let registry = Registry::start_in(folder, "", "auth: {htpasswd: {realm: test, path: @/htpasswd}}");

    let error = anonymous().resolve(&registry.reference("team/app:1")).unwrap_err();
    assert_eq!(error.class(), Class::Unauthorized, "{error}");
    let error = anonymous().login(&registry.host, "joe", &Secret::new("wrong")).unwrap_err();
    assert_eq!(error.class(), Class::Unauthorized, "{error}");
    let credential = anonymous().login(&registry.host, "joe", &Secret::new("secret")).unwrap();
    assert!(matches!(&credential, Credential::Basic { user, .. } if user == "joe"));

    let path = registry.folder.path().join("auth.json");
    AuthFile::load(&path).unwrap().store(&registry.host, &credential).unwrap();
    let client = Client::new(options(AuthFile::load(&path).unwrap())).unwrap();
    round_trip(&client, &registry);
}

/// A certificate for `address` that vouches for itself, as an authority or not.
pub fn make_certificate(folder: &Path, address: &str, authority: &str) {
    let settings = format!(
        "[req]\ndistinguished_name = name\nx509_extensions = own\nprompt = no\n[name]\nCN = test\n\
         [own]\nbasicConstraints = critical,CA:{authority}\nsubjectAltName = IP:{address}\n"
    );
    fs::write(folder.join("openssl.cnf"), settings).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-config", "openssl.cnf", "-newkey", "ec", "-nodes", "-days", "2"]);
    openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", "key.pem", "-out", "cert.pem"]);
    let made = openssl.current_dir(folder).output().expect("openssl is needed for this test");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn round_trip_over_tls_with_an_own_authority() {
    let folder = tempfile::tempdir().unwrap();
    make_certificate(folder.path(), "127.0.0.1", "FALSE");
    let registry = Registry::start_in(folder, "  tls: {certificate: @/cert.pem, key: @/key.pem}", "");

    let error = anonymous().resolve(&registry.reference("team/app:1")).unwrap_err();
    assert_eq!(error.class(), Class::Tls, "a bad certificate is no reason for plain http: {error}");

    let mut trusting = options(AuthFile::none());
    trusting.extra_ca_files = vec![registry.folder.path().join("cert.pem")];
    round_trip(&Client::new(trusting).unwrap(), &registry);

    let mut careless = options(AuthFile::none());
    careless.skip_tls_verify = true;
    let fetched = Client::new(careless).unwrap().resolve(&registry.reference("team/app:1"));
    assert!(fetched.is_ok(), "{fetched:?}");

    let mut wrong = options(AuthFile::none());
    wrong.extra_ca_files = vec![registry.folder.path().join("config.yml")];
    let error = Client::new(wrong).unwrap().resolve(&registry.reference("team/app:1")).unwrap_err();
    assert!(error.to_string().contains("no PEM certificate"), "{error}");
}

#[test]
fn a_listed_certificate_may_be_the_servers_own() {
    for (address, trusted) in [("127.0.0.1", true), ("127.0.0.2", false)] {
        let folder = tempfile::tempdir().unwrap();
        make_certificate(folder.path(), address, "TRUE");
        let registry = Registry::start_in(folder, "  tls: {certificate: @/cert.pem, key: @/key.pem}", "");
        let resolve = |authority: &Path| {
            let mut options = options(AuthFile::none());
            options.extra_ca_files = vec![authority.to_owned()];
            Client::new(options).unwrap().resolve(&registry.reference("app")).unwrap_err().class()
        };
        let expected = if trusted { Class::NotFound } else { Class::Tls };
        assert_eq!(resolve(&registry.folder.path().join("cert.pem")), expected, "{address}");
        let other = tempfile::tempdir().unwrap();
        make_certificate(other.path(), address, "TRUE");
        assert_eq!(
            resolve(&other.path().join("cert.pem")),
            Class::Tls,
            "another certificate of the same name"
        );
    }
}
