//! Pushes to a scripted registry.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use carrack_distribution::{AuthFile, Class, Client, Credential, Error, Pushed, Secret};
use carrack_oci::media_type::OCI_MANIFEST;
use carrack_oci::{Descriptor, Digest};

use crate::server::{Reply, Server};
use crate::{anonymous, blob, options, repository};

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn push(client: &Client, server: &Server, bytes: &[u8], descriptor: &Descriptor) -> Result<Pushed, Error> {
    let open = || Ok(file_of(bytes));
    client.push_blob(&repository(&server.host(), "app"), descriptor, &open, &|_| {})
}

#[test]
fn streams_to_a_relative_location_that_has_a_query() {
    let (bytes, descriptor) = blob(300_000);
    let server = Server::start(|request| match request.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("Location", "/v2/app/blobs/uploads/7?state=a%2Fb"),
        _ => Reply::new(201),
    });
    let sent = Mutex::new(0);
    let open = || Ok(file_of(&bytes));
    let progress = |count| *sent.lock().unwrap() = count;
    let pushed =
        anonymous().push_blob(&repository(&server.host(), "app"), &descriptor, &open, &progress).unwrap();
    assert_eq!((pushed, *sent.lock().unwrap()), (Pushed::Uploaded, 300_000));
    let put = server.seen().pop().unwrap();
    let digest = descriptor.digest.as_str().replace(':', "%3A");
    assert_eq!(put.target, format!("/v2/app/blobs/uploads/7?state=a%2Fb&digest={digest}"));
    assert_eq!(put.header("content-length"), Some("300000"), "monolithic, not chunked");
    assert_eq!(put.body, bytes);
}

#[test]
fn what_is_there_is_not_sent() {
    let (bytes, descriptor) = blob(10);
    let server = Server::start(|_| Reply::new(200).length(10));
    assert_eq!(push(&anonymous(), &server, &bytes, &descriptor).unwrap(), Pushed::Exists);
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_lost_answer_costs_no_second_upload() {
    let (bytes, descriptor) = blob(10);
    let stored = AtomicUsize::new(0);
    let server = Server::start(move |request| match request.method.as_str() {
        "HEAD" if stored.load(Ordering::SeqCst) > 0 => Reply::new(200).length(10),
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("Location", "/v2/app/blobs/uploads/7"),
        _ => {
            stored.fetch_add(1, Ordering::SeqCst);
            Reply::new(502)
        }
    });
    assert_eq!(push(&anonymous(), &server, &bytes, &descriptor).unwrap(), Pushed::Exists);
    assert_eq!(server.seen().iter().filter(|request| request.method == "PUT").count(), 1);
}

#[test]
fn a_location_at_another_host_gets_the_blob_but_no_credential() {
    let (bytes, descriptor) = blob(1000);
    let storage = Server::start(|_| Reply::new(201));
    let location = storage.url("/upload?signature=1");
    let server = Server::start(move |request| match request.header("authorization") {
        None => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"r\""),
        Some(_) if request.method == "HEAD" => Reply::new(404),
        Some(_) => Reply::new(202).header("Location", &location),
    });
    let mut auth = AuthFile::none();
    let credential = Credential::Basic { user: "joe".to_owned(), password: Secret::new("secret") };
    auth.store(&server.host(), &credential).unwrap();
    let client = Client::new(options(auth)).unwrap();
    assert_eq!(push(&client, &server, &bytes, &descriptor).unwrap(), Pushed::Uploaded);
    let seen = storage.seen();
    assert_eq!((seen.len(), seen[0].body == bytes, seen[0].header("authorization")), (1, true, None));
}

#[test]
fn mounts_or_says_that_it_cannot() {
    let (_, descriptor) = blob(10);
    let server = Server::start(|request| match (request.method.as_str(), request.path()) {
        ("POST", "/v2/app/blobs/uploads/") => Reply::new(201),
        ("POST", _) => Reply::new(202).header("Location", "/v2/other/blobs/uploads/9"),
        _ => Reply::new(204),
    });
    let (client, from) = (anonymous(), repository(&server.host(), "base"));
    let mount = |to| client.mount_blob(&repository(&server.host(), to), &descriptor.digest, &from).unwrap();
    assert!(mount("app"));
    let digest = descriptor.digest.as_str().replace(':', "%3A");
    assert_eq!(server.seen()[0].target, format!("/v2/app/blobs/uploads/?mount={digest}&from=base"));
    assert!(!mount("other"));
    assert_eq!(server.count("DELETE", "/v2/other/blobs/uploads/9"), 1, "the upload is given back");
    let far = repository("host.example", "base");
    assert!(!client.mount_blob(&repository(&server.host(), "app"), &descriptor.digest, &far).unwrap());
}

#[test]
fn a_registry_that_stored_something_else_is_found_out() {
    let (bytes, descriptor) = blob(10);
    let server = Server::start(|request| match request.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("Location", "/v2/app/blobs/uploads/7"),
        _ => Reply::new(201).header("Docker-Content-Digest", Digest::of(b"other").as_str()),
    });
    let error = push(&anonymous(), &server, &bytes, &descriptor).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    let put =
        |key: &str| anonymous().put_manifest(&repository(&server.host(), "app"), key, OCI_MANIFEST, b"{}");
    assert!(matches!(put("latest"), Err(Error::DigestMismatch { .. })));
    assert!(matches!(put(Digest::of(b"other").as_str()), Err(Error::Refused { .. })));
    assert!(matches!(put("../../x"), Err(Error::Refused { .. })));
}

/// A peer that takes a few bytes of the body and then no more: its window closes, and nothing else ever happens.
#[test]
fn a_peer_that_takes_no_more_bytes_is_left_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 1024];
            let count = stream.read(&mut buffer).unwrap_or(0);
            let reply = match &buffer[..count] {
                head if head.starts_with(b"HEAD") => {
                    "HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                }
                head if head.starts_with(b"POST") => {
                    "HTTP/1.1 202 X\r\nContent-Length: 0\r\nLocation: /u\r\nConnection: close\r\n\r\n"
                }
                head if head.starts_with(b"PUT") => {
                    held.push(stream);
                    continue;
                }
                _ => continue,
            };
            stream.write_all(reply.as_bytes()).unwrap();
        }
    });
    let (bytes, descriptor) = blob(32 << 20);
    let mut options = options(AuthFile::none());
    options.retry.attempts = 1;
    let client = Client::new(options).unwrap();
    let began = Instant::now();
    let open = || Ok(file_of(&bytes));
    let error = client.push_blob(&repository(&host, "app"), &descriptor, &open, &|_| {}).unwrap_err();
    assert_eq!(error.class(), Class::Unreachable, "{error}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn a_blob_that_cannot_be_read_is_an_error_of_this_side() {
    let (bytes, descriptor) = blob(300_000);
    let server = Server::start(|request| match request.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("Location", "/v2/app/blobs/uploads/7"),
        _ => Reply::new(201),
    });
    struct Breaks<'a>(&'a [u8]);
    impl Read for Breaks<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(std::io::Error::other("the source broke")),
                count => Ok(count),
            }
        }
    }
    let half: &'static [u8] = bytes[..150_000].to_vec().leak();
    let opened = AtomicUsize::new(0);
    let push = |open: &(dyn Fn() -> std::io::Result<Box<dyn Read + Send>> + Sync)| {
        let open = || {
            opened.fetch_add(1, Ordering::Relaxed);
            open()
        };
        anonymous().push_blob(&repository(&server.host(), "app"), &descriptor, &open, &|_| {}).unwrap_err()
    };
    for (error, text) in [
        (push(&|| Ok(Box::new(Breaks(half)))), "the source broke"),
        (push(&|| Ok(Box::new(half))), "expected a blob of 300000 bytes, got 150000"),
        (push(&|| Err(std::io::Error::other("no such file"))), "no such file"),
    ] {
        assert_eq!(error.class(), Class::Local);
        assert!(error.to_string().contains(text), "{error}");
    }
    assert_eq!(opened.load(Ordering::Relaxed), 3, "a local error is not repeated");
}
