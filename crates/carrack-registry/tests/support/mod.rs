//! A registry in this process on a loopback port, and the few requests that every test needs.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use carrack_oci::{Descriptor, Digest, Index, Manifest, media_type};
use carrack_registry::Options;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::{Method, StatusCode};
use tempfile::TempDir;

pub const CONFIG: &[u8] =
    br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{}}"#;

pub struct Server {
    pub address: SocketAddr,
    pub root: PathBuf,
    pub client: Client,
    pub scheme: &'static str,
    _folder: TempDir,
}

impl Server {
    pub fn start() -> Self {
        Self::with(|_, _| {})
    }

    /// Starts with options that `change` may set; it also gets the test's folder.
    pub fn with(change: impl FnOnce(&mut Options, &Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("registry");
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut options = Options { listen, root: root.clone(), htpasswd: None, tls: None };
        change(&mut options, folder.path());
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            carrack_registry::serve(&options, |address| sender.send(address).unwrap()).unwrap();
        });
        let address = receiver.recv_timeout(Duration::from_secs(20)).expect("the registry starts");
        let client = Client::builder()
            .danger_accept_invalid_certs(true)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self { address, root, client, scheme, _folder: folder }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub fn send(&self, method: Method, path: &str) -> Response {
        self.request(method, path).send().unwrap()
    }

    pub fn get(&self, path: &str) -> Response {
        self.send(Method::GET, path)
    }

    /// Begins an upload; returns its location.
    pub fn begin_upload(&self, name: &str) -> String {
        let response = self.send(Method::POST, &format!("/v2/{name}/blobs/uploads/"));
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        header(&response, "location")
    }

    pub fn push_blob(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = format!("{}?digest={digest}", self.begin_upload(name));
        let response = self.request(Method::PUT, &path).body(bytes.to_vec()).send().unwrap();
        assert_eq!(response.status(), StatusCode::CREATED, "{}", response.text().unwrap());
        digest
    }

    pub fn put_manifest(&self, name: &str, key: &str, kind: &str, bytes: &[u8]) -> Response {
        let request = self.request(Method::PUT, &format!("/v2/{name}/manifests/{key}"));
        request.header("Content-Type", kind).body(bytes.to_vec()).send().unwrap()
    }

    /// Pushes an image with a layer of `text`; returns the manifest's bytes.
    pub fn push_image(&self, name: &str, tag: &str, text: &str) -> Vec<u8> {
        self.push_blob(name, CONFIG);
        self.push_blob(name, text.as_bytes());
        let bytes = image(text, None);
        let response = self.put_manifest(name, tag, media_type::OCI_MANIFEST, &bytes);
        assert_eq!(response.status(), StatusCode::CREATED, "{}", response.text().unwrap());
        bytes
    }
}

/// The manifest of an image with one layer.
pub fn image(layer: &str, subject: Option<Descriptor>) -> Vec<u8> {
    let config = Descriptor::of(media_type::OCI_CONFIG, CONFIG);
    let layer = Descriptor::of(media_type::OCI_LAYER, layer.as_bytes());
    serde_json::to_vec(&Manifest { subject, ..Manifest::oci(config, vec![layer]) }).unwrap()
}

pub fn index(entries: &[&[u8]]) -> Vec<u8> {
    let entries = entries.iter().map(|bytes| Descriptor::of(media_type::OCI_MANIFEST, bytes)).collect();
    serde_json::to_vec(&Index::oci(entries)).unwrap()
}

pub fn header(response: &Response, name: &str) -> String {
    let value = response.headers().get(name).unwrap_or_else(|| panic!("no {name} in {response:?}"));
    value.to_str().unwrap().to_owned()
}

/// The body of a response as JSON.
pub fn json(response: Response) -> serde_json::Value {
    serde_json::from_slice(&response.bytes().unwrap()).unwrap()
}

/// The response must be the error `code`, in the form of the specification.
#[track_caller]
pub fn expect_error(response: Response, status: u16, code: &str) -> serde_json::Value {
    assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
    assert_eq!(header(&response, "content-type"), "application/json");
    let got = response.status();
    let body = json(response);
    assert_eq!((got.as_u16(), body["errors"][0]["code"].as_str()), (status, Some(code)), "{body}");
    assert!(body["errors"][0]["message"].is_string());
    body
}

/// Names of all files below a folder, for tests of what is left behind.
pub fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { names.extend(files(&path)) } else { names.push(path.display().to_string()) }
    }
    names
}
