//! Pushing blobs: every way of the specification, and everything that can be wrong with one.

mod support;

use std::io::Read;

use carrack_oci::Digest;
use reqwest::{Method, StatusCode};
use support::{Server, expect_error, files, header};

#[test]
fn post_then_put() {
    let server = Server::start();
    let response = server.send(Method::POST, "/v2/a/b/blobs/uploads/");
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let location = header(&response, "location");
    assert_eq!(location, format!("/v2/a/b/blobs/uploads/{}", header(&response, "docker-upload-uuid")));
    assert_eq!(header(&response, "range"), "0-0");
    let digest = Digest::of(b"layer");
    let response =
        server.request(Method::PUT, &format!("{location}?digest={digest}")).body("layer").send().unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(header(&response, "location"), format!("/v2/a/b/blobs/{digest}"));
    assert_eq!(header(&response, "docker-content-digest"), digest.as_str());
    assert_eq!(server.get(&header(&response, "location")).bytes().unwrap(), "layer");
    assert_eq!(files(&server.root.join("uploads")), Vec::<String>::new());
    expect_error(server.get(&location), 404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn single_post() {
    let server = Server::start();
    let digest = Digest::of(b"layer");
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let response = server.request(Method::POST, &path).body("layer").send().unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).bytes().unwrap(), "layer");
    let response = server.request(Method::POST, &path).body("other").send().unwrap();
    expect_error(response, 400, "DIGEST_INVALID");
    assert_eq!(files(&server.root.join("uploads")), Vec::<String>::new());
}

#[test]
fn chunks_in_order_and_out_of_order() {
    let server = Server::start();
    let location = server.begin_upload("a");
    let chunk = |range: &str, body: &'static str| {
        server.request(Method::PATCH, &location).header("Content-Range", range).body(body).send().unwrap()
    };
    expect_error(chunk("1-3", "abc"), 416, "BLOB_UPLOAD_INVALID");
    let response = chunk("0-2", "abc");
    assert_eq!((response.status(), header(&response, "range")), (StatusCode::ACCEPTED, "0-2".to_owned()));
    let response = chunk("2-4", "cde");
    assert_eq!(
        (header(&response, "range"), header(&response, "location")),
        ("0-2".to_owned(), location.clone())
    );
    expect_error(response, 416, "BLOB_UPLOAD_INVALID");
    expect_error(chunk("bytes 3-5/6", "def"), 400, "BLOB_UPLOAD_INVALID");
    let response = server.get(&location);
    assert_eq!((response.status(), header(&response, "range")), (StatusCode::NO_CONTENT, "0-2".to_owned()));
    let close = format!("{location}?digest={}", Digest::of(b"abcdef"));
    let put = |range: &str| {
        server.request(Method::PUT, &close).header("Content-Range", range).body("def").send().unwrap()
    };
    expect_error(put("5-7"), 416, "BLOB_UPLOAD_INVALID");
    assert_eq!(put("3-5").status(), StatusCode::CREATED);
}

#[test]
fn a_chunk_of_another_length_is_taken_back() {
    let server = Server::start();
    let location = server.begin_upload("a");
    assert_eq!(server.request(Method::PATCH, &location).body("abc").send().unwrap().status(), 202);
    for body in ["defg", "d"] {
        let request = server.request(Method::PATCH, &location).header("Content-Range", "3-5");
        expect_error(request.body(body).send().unwrap(), 400, "SIZE_INVALID");
        assert_eq!(header(&server.get(&location), "range"), "0-2");
    }
    let close = format!("{location}?digest={}", Digest::of(b"abcdef"));
    assert_eq!(server.request(Method::PUT, &close).body("def").send().unwrap().status(), 201);
}

#[test]
fn docker_streams_without_a_range() {
    let server = Server::start();
    let location = server.begin_upload("a");
    let bytes: Vec<u8> = (0..5_000_000u32).map(|number| (number % 251) as u8).collect();
    let body = reqwest::blocking::Body::new(std::io::Cursor::new(bytes.clone()));
    let response = server.request(Method::PATCH, &location).body(body).send().unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "range")), (202, "0-4999999".to_owned()));
    let digest = Digest::of(&bytes);
    let response = server.send(Method::PUT, &format!("{location}?digest={digest}"));
    assert_eq!(response.status(), StatusCode::CREATED);
    let mut pulled = Vec::new();
    server.get(&format!("/v2/a/blobs/{digest}")).read_to_end(&mut pulled).unwrap();
    assert!(pulled == bytes);
}

#[test]
fn sha512_and_empty_blobs() {
    let server = Server::start();
    let mut hasher = format!("sha512:{}", "0".repeat(128)).parse::<Digest>().unwrap().hasher();
    hasher.update(b"layer");
    let digest = hasher.finish();
    let path = format!("{}?digest={digest}", server.begin_upload("a"));
    assert_eq!(server.request(Method::PUT, &path).body("layer").send().unwrap().status(), 201);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).bytes().unwrap(), "layer");
    let empty = server.push_blob("a", b"");
    let response = server.get(&format!("/v2/a/blobs/{empty}"));
    assert_eq!((response.status().as_u16(), header(&response, "content-length")), (200, "0".to_owned()));
}

#[test]
fn a_wrong_digest_ends_the_upload() {
    let server = Server::start();
    let location = server.begin_upload("a");
    let digest = Digest::of(b"other");
    let response =
        server.request(Method::PUT, &format!("{location}?digest={digest}")).body("layer").send().unwrap();
    let message = expect_error(response, 400, "DIGEST_INVALID")["errors"][0]["message"].to_string();
    assert!(message.contains("after 5 bytes"), "{message}");
    expect_error(server.get(&location), 404, "BLOB_UPLOAD_UNKNOWN");
    expect_error(server.get(&format!("/v2/a/blobs/{digest}")), 404, "BLOB_UNKNOWN");
    assert_eq!(files(&server.root.join("uploads")), Vec::<String>::new());
}

#[test]
fn invalid_digests_and_algorithms() {
    let server = Server::start();
    let location = server.begin_upload("a");
    for digest in ["", "sha256:12", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../x"] {
        expect_error(server.send(Method::PUT, &format!("{location}?digest={digest}")), 400, "DIGEST_INVALID");
        let path = format!("/v2/a/blobs/uploads/?digest={digest}");
        expect_error(server.send(Method::POST, &path), 400, "DIGEST_INVALID");
        let path = format!("/v2/a/blobs/uploads/?mount={digest}&from=b");
        expect_error(server.send(Method::POST, &path), 400, "DIGEST_INVALID");
    }
    expect_error(server.send(Method::PUT, &location), 400, "DIGEST_INVALID");
    let path = "/v2/a/blobs/uploads/?digest-algorithm=md5";
    expect_error(server.send(Method::POST, path), 400, "DIGEST_INVALID");
    assert_eq!(server.get(&location).status(), 204, "the upload is still open");
}

#[test]
fn cancel() {
    let server = Server::start();
    let location = server.begin_upload("a");
    server.request(Method::PATCH, &location).body("abc").send().unwrap();
    assert_eq!(server.send(Method::DELETE, &location).status(), StatusCode::NO_CONTENT);
    assert_eq!(files(&server.root.join("uploads")), Vec::<String>::new());
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        expect_error(server.send(method, &location), 404, "BLOB_UPLOAD_UNKNOWN");
    }
}

#[test]
fn an_upload_belongs_to_its_repository() {
    let server = Server::start();
    let id = server.begin_upload("a").rsplit_once('/').unwrap().1.to_owned();
    for path in [format!("/v2/b/blobs/uploads/{id}"), "/v2/a/blobs/uploads/..%2f..%2flock".to_owned()] {
        assert!(matches!(server.send(Method::PATCH, &path).status().as_u16(), 400 | 404), "{path}");
    }
    let response = server.send(Method::PATCH, &format!("/v2/b/blobs/uploads/{id}"));
    expect_error(response, 404, "BLOB_UPLOAD_UNKNOWN");
    expect_error(server.send(Method::GET, "/v2/a/blobs/uploads/nonsense"), 404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn mount() {
    let server = Server::start();
    let digest = server.push_blob("from", b"layer");
    let mount =
        |query: &str| server.send(Method::POST, &format!("/v2/to/blobs/uploads/?mount={digest}{query}"));
    for query in ["", "&from=elsewhere"] {
        let response = mount(query);
        assert_eq!(response.status(), StatusCode::ACCEPTED, "an upload begins instead");
        assert!(header(&response, "location").starts_with("/v2/to/blobs/uploads/"));
    }
    expect_error(server.get(&format!("/v2/to/blobs/{digest}")), 404, "BLOB_UNKNOWN");
    expect_error(mount("&from=../from"), 400, "NAME_INVALID");
    let response = mount("&from=from");
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(header(&response, "location"), format!("/v2/to/blobs/{digest}"));
    assert_eq!(server.get(&format!("/v2/to/blobs/{digest}")).bytes().unwrap(), "layer");
}

#[test]
fn two_uploads_of_one_blob_both_succeed() {
    let server = Server::start();
    let bytes = vec![7; 3 << 20];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| server.push_blob("a", &bytes));
        }
    });
    assert_eq!(server.get(&format!("/v2/a/blobs/{}", Digest::of(&bytes))).bytes().unwrap(), bytes);
}

#[test]
fn other_methods_are_not_supported() {
    let server = Server::start();
    let response = server.get("/v2/a/blobs/uploads/");
    assert_eq!(header(&response, "allow"), "POST");
    expect_error(response, 405, "UNSUPPORTED");
    expect_error(server.send(Method::POST, &server.begin_upload("a")), 405, "UNSUPPORTED");
}
