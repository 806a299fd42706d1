//! Pulling and deleting blobs.

mod support;

use carrack_oci::Digest;
use reqwest::{Method, StatusCode};
use support::{Server, expect_error, header};

#[test]
fn get_and_head() {
    let server = Server::start();
    let digest = server.push_blob("a", b"0123456789");
    for method in [Method::GET, Method::HEAD] {
        let response = server.send(method.clone(), &format!("/v2/a/blobs/{digest}"));
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, "content-length"), "10", "{method}");
        assert_eq!(header(&response, "docker-content-digest"), digest.as_str());
        assert_eq!(header(&response, "content-type"), "application/octet-stream");
        assert_eq!(header(&response, "accept-ranges"), "bytes");
        assert_eq!(header(&response, "x-content-type-options"), "nosniff");
        assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
    }
}

#[test]
fn ranges() {
    let server = Server::start();
    let bytes: Vec<u8> = (0..1_000_003u32).map(|number| (number % 253) as u8).collect();
    let path = format!("/v2/a/blobs/{}", server.push_blob("a", &bytes));
    let get = |range: &str| server.request(Method::GET, &path).header("Range", range).send().unwrap();
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=10-700009", 10, 700_010),
        ("bytes=999999-", 999_999, 1_000_003),
        ("bytes=-3", 1_000_000, 1_000_003),
    ] {
        let response = get(range);
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(header(&response, "content-range"), format!("bytes {start}-{}/1000003", end - 1));
        assert!(response.bytes().unwrap() == bytes[start..end], "{range}");
    }
    let response = get("bytes=1000003-");
    assert_eq!(header(&response, "content-range"), "bytes */1000003");
    expect_error(response, 416, "SIZE_INVALID");
    for range in ["bytes=5-2", "bytes=0-1,5-6", "lines=1-2"] {
        let response = get(range);
        assert_eq!(response.status(), StatusCode::OK, "{range} is ignored");
        assert!(response.bytes().unwrap() == bytes);
    }
    let other = get("bytes=5-").headers()["etag"].clone();
    let request = server.request(Method::GET, &path).header("Range", "bytes=5-");
    assert_eq!(request.header("If-Range", "\"sha256:other\"").send().unwrap().status(), StatusCode::OK);
    let request = server.request(Method::GET, &path).header("If-None-Match", other);
    assert_eq!(request.send().unwrap().status(), StatusCode::NOT_MODIFIED);
}

#[test]
fn unknown_and_invalid() {
    let server = Server::start();
    let unknown = Digest::of(b"unknown");
    for method in [Method::GET, Method::DELETE] {
        let body = expect_error(server.send(method, &format!("/v2/a/blobs/{unknown}")), 404, "BLOB_UNKNOWN");
        assert_eq!(body["errors"][0]["detail"]["digest"], unknown.as_str());
    }
    assert_eq!(server.send(Method::HEAD, &format!("/v2/a/blobs/{unknown}")).status(), StatusCode::NOT_FOUND);
    expect_error(server.get("/v2/a/blobs/sha256:xyz"), 400, "DIGEST_INVALID");
    expect_error(server.send(Method::PUT, &format!("/v2/a/blobs/{unknown}")), 405, "UNSUPPORTED");
}

#[test]
fn a_blob_is_reachable_only_through_its_repositories() {
    let server = Server::start();
    let digest = server.push_blob("private", b"secret");
    expect_error(server.get(&format!("/v2/public/blobs/{digest}")), 404, "BLOB_UNKNOWN");
    expect_error(server.get(&format!("/v2/private/sub/blobs/{digest}")), 404, "BLOB_UNKNOWN");
}

#[test]
fn deletion_takes_a_blob_from_one_repository_only() {
    let server = Server::start();
    let digest = server.push_blob("a", b"layer");
    server.push_blob("b", b"layer");
    let path = format!("/v2/a/blobs/{digest}");
    assert_eq!(server.send(Method::DELETE, &path).status(), StatusCode::ACCEPTED);
    expect_error(server.get(&path), 404, "BLOB_UNKNOWN");
    assert_eq!(server.get(&format!("/v2/b/blobs/{digest}")).bytes().unwrap(), "layer");
    assert_eq!(server.push_blob("a", b"layer"), digest);
    assert_eq!(server.get(&path).bytes().unwrap(), "layer");
}
