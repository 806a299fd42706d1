//! What a kill leaves: a registry in a child process, which is this test binary again.

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use carrack_oci::Digest;
use carrack_registry::{Error, Options, serve};
use reqwest::blocking::{Client, Response};
use support::{files, header};

/// Not a test: the child. It serves the folder in which it runs, and says where in the file `address`.
#[test]
#[ignore = "the child process of the other tests"]
fn child() {
    let listen = ([127, 0, 0, 1], 0).into();
    let options = Options { listen, root: "registry".into(), htpasswd: None, tls: None };
    serve(&options, |address| {
        std::fs::write("address.new", address.to_string()).unwrap();
        std::fs::rename("address.new", "address").unwrap();
    })
    .unwrap();
}

struct Registry {
    process: Child,
    address: SocketAddr,
    client: Client,
}

impl Registry {
    fn start(folder: &Path) -> Self {
        let _ = std::fs::remove_file(folder.join("address"));
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        let address = loop {
            if let Ok(text) = std::fs::read_to_string(folder.join("address")) {
                break text.parse().unwrap();
            }
            assert!(Instant::now() < end, "the child does not start");
            std::thread::sleep(Duration::from_millis(5));
        };
        Self { process, address, client: Client::builder().no_proxy().build().unwrap() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().unwrap()
    }

    fn begin_upload(&self) -> String {
        header(&self.client.post(self.url("/v2/a/blobs/uploads/")).send().unwrap(), "location")
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn an_upload_goes_on_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path());
    let location = registry.begin_upload();
    registry.client.patch(registry.url(&location)).body(vec![b'a'; 700_000]).send().unwrap();
    registry.kill();
    let registry = Registry::start(folder.path());
    let response = registry.get(&location);
    assert_eq!((response.status().as_u16(), header(&response, "range")), (204, "0-699999".to_owned()));
    let whole = [vec![b'a'; 700_000], vec![b'b'; 10]].concat();
    let close = format!("{location}?digest={}", Digest::of(&whole));
    let response = registry.client.put(registry.url(&close)).body(vec![b'b'; 10]).send().unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(registry.get(&header(&response, "location")).bytes().unwrap(), whole);
}

/// Kills at different moments of a large upload: there is never a half blob, and the same push then works.
#[test]
fn a_kill_during_an_upload_leaves_no_half_blob() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = vec![7; 24 << 20];
    let digest = Digest::of(&bytes);
    for delay in [0, 3, 6, 12, 25, 50, 100] {
        let mut registry = Registry::start(folder.path());
        let path = registry.url(&format!("/v2/a/blobs/uploads/?digest={digest}"));
        let (client, body) = (registry.client.clone(), bytes.clone());
        let push = std::thread::spawn(move || {
            client.post(path).body(body).send().is_ok_and(|response| response.status() == 201)
        });
        std::thread::sleep(Duration::from_millis(delay));
        registry.process.kill().unwrap();
        registry.process.wait().unwrap();
        let was_acknowledged = push.join().unwrap();
        let registry = Registry::start(folder.path());
        let response = registry.get(&format!("/v2/a/blobs/{digest}"));
        assert!(!was_acknowledged || response.status() == 200, "an acknowledged blob is there");
        if response.status() == 200 {
            assert!(response.bytes().unwrap() == bytes, "a blob is whole or absent");
        }
        let left: Vec<_> = files(&folder.path().join("registry/uploads"));
        assert_eq!(left, Vec::<String>::new(), "bytes that nobody can go on with are gone");
        let path = registry.url(&format!("/v2/a/blobs/uploads/?digest={digest}"));
        assert_eq!(registry.client.post(path).body(bytes.clone()).send().unwrap().status(), 201);
        assert_eq!(
            registry.client.delete(registry.url(&format!("/v2/a/blobs/{digest}"))).send().unwrap().status(),
            202
        );
    }
}

#[test]
fn what_nothing_names_is_collected_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path());
    let (kept, deleted) = (Digest::of(b"kept"), Digest::of(b"deleted"));
    for (digest, body) in [(&kept, "kept"), (&deleted, "deleted")] {
        let path = registry.url(&format!("/v2/a/blobs/uploads/?digest={digest}"));
        assert_eq!(registry.client.post(path).body(body).send().unwrap().status(), 201);
    }
    registry.client.delete(registry.url(&format!("/v2/a/blobs/{deleted}"))).send().unwrap();
    let content = folder.path().join("registry/content/blobs");
    assert_eq!(files(&content).len(), 2);
    registry.kill();
    let registry = Registry::start(folder.path());
    assert_eq!(files(&content).len(), 1);
    assert_eq!(registry.get(&format!("/v2/a/blobs/{kept}")).bytes().unwrap(), "kept");
}

#[test]
fn a_folder_has_one_server() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path());
    let root = folder.path().join("registry");
    let options = Options { listen: ([127, 0, 0, 1], 0).into(), root, htpasswd: None, tls: None };
    let error = serve(&options, |_| panic!("two servers")).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    registry.kill();
}

/// SIGTERM lets the request under way finish, and the process end by itself.
#[test]
fn ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut registry = Registry::start(folder.path());
    let location = registry.begin_upload();
    let (sender, body) = std::io::pipe().map(|(reader, writer)| (writer, reader)).unwrap();
    let digest = Digest::of(b"slow body");
    let put = registry.client.put(registry.url(&format!("{location}?digest={digest}")));
    let push =
        std::thread::spawn(move || put.body(reqwest::blocking::Body::new(body)).send().unwrap().status());
    std::io::Write::write_all(&mut &sender, b"slow ").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let pid = rustix::process::Pid::from_child(&registry.process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    std::io::Write::write_all(&mut &sender, b"body").unwrap();
    drop(sender);
    assert_eq!(push.join().unwrap(), 201);
    let end = Instant::now() + Duration::from_secs(5);
    let status = loop {
        if let Some(status) = registry.process.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < end, "the registry does not end");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{status}");
}
