//! Clients that are not what they should be, on bare connections.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use carrack_oci::Digest;
use reqwest::{Method, StatusCode};
use support::{Server, expect_error, files, header};

/// Sends bytes as they are and returns what comes back until the server closes or is silent for a second.
fn raw(server: &Server, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn path_tricks_reach_nothing() {
    let server = Server::start();
    server.push_image("a", "v1", "one");
    let before = files(&server.root);
    for name in [
        "..",
        "../..",
        "%2e%2e",
        "a/%2e%2e/b",
        "_blobs",
        "a/_manifests",
        ".a",
        "a%00b",
        "A",
        "a//b",
        "%2fetc",
    ] {
        let answer = raw(&server, format!("GET /v2/{name}/tags/list HTTP/1.0\r\n\r\n").as_bytes());
        assert!(answer.contains("NAME_INVALID"), "{name}: {answer}");
        let answer = raw(
            &server,
            format!("POST /v2/{name}/blobs/uploads/ HTTP/1.0\r\nContent-Length: 0\r\n\r\n").as_bytes(),
        );
        assert!(answer.contains("NAME_INVALID"), "{name}: {answer}");
    }
    for digest in ["sha256:..%2f..%2flock", "..", "sha256:", "sha1:abc"] {
        for path in [format!("/v2/a/blobs/{digest}"), format!("/v2/a/referrers/{digest}")] {
            let status = server.get(&path).status();
            assert!(matches!(status.as_u16(), 400 | 404), "{path}: {status}");
        }
    }
    assert_eq!(files(&server.root), before);
}

#[test]
fn long_names_and_addresses() {
    let server = Server::start();
    let name = "a".repeat(255);
    server.push_image(&name, &"t".repeat(128), "one");
    assert_eq!(server.get(&format!("/v2/{name}/manifests/{}", "t".repeat(128))).status(), StatusCode::OK);
    let deep = "a/".repeat(127) + "a";
    server.push_image(&deep, "v1", "one");
    expect_error(server.get(&format!("/v2/{name}a/tags/list")), 400, "NAME_INVALID");
    expect_error(server.get(&format!("/v2/a/tags/list?last={}", "x".repeat(9000))), 414, "UNSUPPORTED");
    expect_error(server.get(&format!("/v2/a/manifests/{}", "t".repeat(129))), 404, "MANIFEST_UNKNOWN");
}

#[test]
fn a_body_that_breaks_off_can_be_continued() {
    let server = Server::start();
    let location = server.begin_upload("a");
    let mut stream = TcpStream::connect(server.address).unwrap();
    write!(stream, "PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc").unwrap();
    drop(stream);
    let range = (0..50).find_map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        let response = server.get(&location);
        (response.status() == 204).then(|| header(&response, "range")).filter(|range| range != "0-0")
    });
    assert_eq!(range.as_deref(), Some("0-2"));
    let path = format!("{location}?digest={}", Digest::of(b"abcdef"));
    let request = server.request(Method::PUT, &path).header("Content-Range", "3-5").body("def");
    assert_eq!(request.send().unwrap().status(), StatusCode::CREATED);
}

#[test]
fn a_single_post_that_breaks_off_leaves_nothing() {
    let server = Server::start();
    let digest = Digest::of(b"abcdef");
    let mut stream = TcpStream::connect(server.address).unwrap();
    write!(
        stream,
        "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc"
    )
    .unwrap();
    drop(stream);
    let is_gone = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        files(&server.root.join("uploads")).is_empty()
    });
    assert!(is_gone);
    assert_eq!(server.push_blob("a", b"abcdef"), digest);
}

#[test]
fn two_requests_write_to_one_upload_one_after_the_other() {
    let server = Server::start();
    let location = server.begin_upload("a");
    let mut slow = TcpStream::connect(server.address).unwrap();
    write!(slow, "PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    std::thread::scope(|scope| {
        let second = scope.spawn(|| server.request(Method::PATCH, &location).body("ghi").send().unwrap());
        std::thread::sleep(Duration::from_millis(200));
        slow.write_all(b"def").unwrap();
        let response = second.join().unwrap();
        assert_eq!((response.status().as_u16(), header(&response, "range")), (202, "0-8".to_owned()));
    });
    let path = format!("{location}?digest={}", Digest::of(b"abcdefghi"));
    assert_eq!(server.send(Method::PUT, &path).status(), StatusCode::CREATED);
}

#[test]
fn one_byte_chunks_are_taken() {
    let server = Server::start();
    let location = server.begin_upload("a");
    let mut request =
        format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    request.extend(b"1\r\nx\r\n".repeat(5000));
    request.extend(b"0\r\n\r\n");
    assert!(raw(&server, &request).starts_with("HTTP/1.1 202"));
    assert_eq!(header(&server.get(&location), "range"), "0-4999");
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let server = Server::start();
    let body = vec![0; 6 << 20];
    let response = server.request(Method::PATCH, "/v2/a/blobs/uploads/unknown").body(body).send().unwrap();
    expect_error(response, 404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn a_client_that_asks_first_is_told_before_it_sends() {
    let server = Server::start();
    let head = "HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n";
    let answer = raw(&server, format!("PUT /v2/a/manifests/-x {head}").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("connection: close"), "{answer}");
    let location = server.begin_upload("a");
    let answer = raw(&server, format!("PATCH {location} {head}").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 100"), "{answer}");
}

#[test]
fn malformed_requests_do_not_end_the_server() {
    let server = Server::start();
    let huge = [b"GET /v2/ HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 1 << 20]].concat();
    let many = ["GET /v2/ HTTP/1.1\r\n".to_owned(), "A: b\r\n".repeat(10_000), "\r\n".to_owned()].concat();
    for request in
        [&b"\x16\x03\x01garbage\r\n\r\n"[..], b"GET", &huge, many.as_bytes(), b"GET /v2/ HTTP/9.9\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let _ = stream.write_all(request);
    }
    let both = "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v2/ HTTP/1.1\r\n\r\n";
    let answer = raw(&server, both.as_bytes());
    assert!(answer.matches("HTTP/1.1").count() <= 1 || !answer.contains("HTTP/1.1 200"), "{answer}");
    assert_eq!(server.get("/v2/").status(), StatusCode::OK);
}

#[test]
fn the_folder_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start();
    assert_eq!(std::fs::metadata(&server.root).unwrap().permissions().mode() & 0o777, 0o700);
}
