//! Pushing, pulling and deleting manifests and tags.

mod support;

use carrack_oci::media_type::{DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use carrack_oci::{Descriptor, Digest};
use reqwest::{Method, StatusCode};
use support::{CONFIG, Server, expect_error, header, image, index, json};

#[test]
fn push_and_pull_by_tag_and_digest() {
    let server = Server::start();
    server.push_blob("a", CONFIG);
    server.push_blob("a", b"one");
    let bytes = image("one", None);
    let digest = Digest::of(&bytes);
    let response = server.put_manifest("a", "v1", OCI_MANIFEST, &bytes);
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(header(&response, "location"), format!("/v2/a/manifests/{digest}"));
    assert_eq!(header(&response, "docker-content-digest"), digest.as_str());
    for key in ["v1", digest.as_str()] {
        for method in [Method::HEAD, Method::GET, Method::GET] {
            let response = server.send(method.clone(), &format!("/v2/a/manifests/{key}"));
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(header(&response, "content-type"), OCI_MANIFEST);
            assert_eq!(header(&response, "content-length"), bytes.len().to_string());
            assert_eq!(header(&response, "docker-content-digest"), digest.as_str());
            if method == Method::GET {
                assert_eq!(response.bytes().unwrap(), bytes, "the exact bytes");
            }
        }
    }
    let request =
        server.request(Method::GET, "/v2/a/manifests/v1").header("If-None-Match", format!("\"{digest}\""));
    assert_eq!(request.send().unwrap().status(), StatusCode::NOT_MODIFIED);
}

#[test]
fn a_tag_moves_and_old_content_stays() {
    let server = Server::start();
    let one = server.push_image("a", "latest", "one");
    assert_eq!(server.get("/v2/a/manifests/latest").bytes().unwrap(), one);
    let two = server.push_image("a", "latest", "two");
    assert_eq!(server.get("/v2/a/manifests/latest").bytes().unwrap(), two);
    assert_eq!(server.get(&format!("/v2/a/manifests/{}", Digest::of(&one))).bytes().unwrap(), one);
}

#[test]
fn push_by_digest_with_tags() {
    let server = Server::start();
    let bytes = server.push_image("a", "v1", "one");
    let key = format!("{}?tag=v1.0&tag=stable", Digest::of(&bytes));
    let response = server.put_manifest("a", &key, OCI_MANIFEST, &bytes);
    let tags: Vec<_> = response.headers().get_all("oci-tag").iter().collect();
    assert_eq!(tags, ["v1.0", "stable"]);
    assert_eq!(server.get("/v2/a/manifests/stable").bytes().unwrap(), bytes);
    let many = format!("{}?{}", Digest::of(&bytes), "tag=x&".repeat(33));
    expect_error(server.put_manifest("a", &many, OCI_MANIFEST, &bytes), 400, "MANIFEST_INVALID");
    let wrong = Digest::of(b"other");
    expect_error(server.put_manifest("a", wrong.as_str(), OCI_MANIFEST, &bytes), 400, "DIGEST_INVALID");
}

#[test]
fn what_a_manifest_names_must_be_in_the_repository() {
    let server = Server::start();
    server.push_image("elsewhere", "v1", "one");
    let bytes = image("one", None);
    let body =
        expect_error(server.put_manifest("a", "v1", OCI_MANIFEST, &bytes), 404, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(body["errors"].as_array().unwrap().len(), 2, "one error for each missing blob: {body}");
    let list = index(&[&bytes]);
    let body = expect_error(server.put_manifest("a", "v1", OCI_INDEX, &list), 404, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(body["errors"][0]["detail"]["digest"], Digest::of(&bytes).as_str());
    server.push_image("a", "amd64", "one");
    assert_eq!(server.put_manifest("a", "v1", OCI_INDEX, &list).status(), StatusCode::CREATED);
}

#[test]
fn sizes_must_be_true() {
    let server = Server::start();
    server.push_blob("a", CONFIG);
    server.push_blob("a", b"one");
    let mut manifest: serde_json::Value = serde_json::from_slice(&image("one", None)).unwrap();
    manifest["layers"][0]["size"] = 4.into();
    let bytes = serde_json::to_vec(&manifest).unwrap();
    expect_error(server.put_manifest("a", "v1", OCI_MANIFEST, &bytes), 400, "SIZE_INVALID");
}

#[test]
fn layers_kept_elsewhere_need_not_be_here() {
    let server = Server::start();
    server.push_blob("a", CONFIG);
    let mut manifest: serde_json::Value = serde_json::from_slice(&image("foreign", None)).unwrap();
    manifest["layers"][0]["urls"] = serde_json::json!(["https://host.example/layer"]);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    assert_eq!(server.put_manifest("a", "v1", OCI_MANIFEST, &bytes).status(), StatusCode::CREATED);
}

#[test]
fn invalid_manifests() {
    let server = Server::start();
    let bytes = server.push_image("a", "v1", "one");
    let put = |key: &str, kind: &str, bytes: &[u8]| server.put_manifest("a", key, kind, bytes);
    expect_error(put("v2", OCI_MANIFEST, b"{"), 400, "MANIFEST_INVALID");
    expect_error(put("v2", OCI_MANIFEST, b""), 400, "MANIFEST_INVALID");
    expect_error(put("v2", "text/html", &bytes), 400, "MANIFEST_INVALID");
    expect_error(put("v2", DOCKER_MANIFEST, &bytes), 400, "MANIFEST_INVALID");
    expect_error(put("-v2", OCI_MANIFEST, &bytes), 400, "MANIFEST_INVALID");
    expect_error(put("sha256:12", OCI_MANIFEST, &bytes), 400, "MANIFEST_INVALID");
    let twice = String::from_utf8(bytes.clone()).unwrap().replacen('{', "{\"schemaVersion\":2,", 1);
    expect_error(put("v2", OCI_MANIFEST, twice.as_bytes()), 400, "MANIFEST_INVALID");
    expect_error(server.get("/v2/a/manifests/v2"), 404, "MANIFEST_UNKNOWN");
}

#[test]
fn content_type_may_have_parameters_or_be_absent() {
    let server = Server::start();
    let bytes = server.push_image("a", "v1", "one");
    let response = server.put_manifest("a", "v2", &format!("{OCI_MANIFEST}; charset=utf-8"), &bytes);
    assert_eq!(response.status(), StatusCode::CREATED);
    let response = server.request(Method::PUT, "/v2/a/manifests/v3").body(bytes).send().unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    for tag in ["v2", "v3"] {
        assert_eq!(header(&server.get(&format!("/v2/a/manifests/{tag}")), "content-type"), OCI_MANIFEST);
    }
}

#[test]
fn too_large_is_refused_with_and_without_a_length() {
    let server = Server::start();
    let bytes = vec![b' '; (4 << 20) + 1];
    expect_error(server.put_manifest("a", "v1", OCI_MANIFEST, &bytes), 413, "MANIFEST_INVALID");
    let body = reqwest::blocking::Body::new(std::io::Cursor::new(bytes));
    let request = server.request(Method::PUT, "/v2/a/manifests/v1").header("Content-Type", OCI_MANIFEST);
    expect_error(request.body(body).send().unwrap(), 413, "MANIFEST_INVALID");
}

#[test]
fn four_mebibytes_are_accepted() {
    let server = Server::start();
    let mut bytes = server.push_image("a", "v1", "one");
    bytes.resize(4 << 20, b' ');
    assert_eq!(server.put_manifest("a", "v2", OCI_MANIFEST, &bytes).status(), StatusCode::CREATED);
    assert_eq!(server.get("/v2/a/manifests/v2").bytes().unwrap(), bytes);
}

#[test]
fn unknown_names_and_keys() {
    let server = Server::start();
    expect_error(server.get("/v2/a/manifests/v1"), 404, "NAME_UNKNOWN");
    server.push_image("a", "v1", "one");
    expect_error(server.get("/v2/a/manifests/v2"), 404, "MANIFEST_UNKNOWN");
    expect_error(server.get("/v2/a/manifests/.invalid"), 404, "MANIFEST_UNKNOWN");
    expect_error(server.get(&format!("/v2/a/manifests/{}", Digest::of(b""))), 404, "MANIFEST_UNKNOWN");
    // A blob is not a manifest, although its digest is known.
    expect_error(server.get(&format!("/v2/a/manifests/{}", Digest::of(CONFIG))), 404, "MANIFEST_UNKNOWN");
    expect_error(server.send(Method::POST, "/v2/a/manifests/v1"), 405, "UNSUPPORTED");
}

#[test]
fn delete_by_tag_and_by_digest() {
    let server = Server::start();
    let bytes = server.push_image("a", "v1", "one");
    let digest = Digest::of(&bytes);
    for tag in ["v2", "v3"] {
        server.put_manifest("a", tag, OCI_MANIFEST, &bytes);
    }
    server.push_image("a", "other", "two");
    assert_eq!(server.send(Method::DELETE, "/v2/a/manifests/v1").status(), StatusCode::ACCEPTED);
    expect_error(server.get("/v2/a/manifests/v1"), 404, "MANIFEST_UNKNOWN");
    expect_error(server.send(Method::DELETE, "/v2/a/manifests/v1"), 404, "MANIFEST_UNKNOWN");
    assert_eq!(server.get("/v2/a/manifests/v2").status(), StatusCode::OK);
    let path = format!("/v2/a/manifests/{digest}");
    assert_eq!(server.send(Method::DELETE, &path).status(), StatusCode::ACCEPTED);
    for key in ["v2", "v3", digest.as_str()] {
        expect_error(server.get(&format!("/v2/a/manifests/{key}")), 404, "MANIFEST_UNKNOWN");
    }
    expect_error(server.send(Method::DELETE, &path), 404, "MANIFEST_UNKNOWN");
    let list = json(server.get("/v2/a/tags/list"));
    assert_eq!(list["tags"], serde_json::json!(["other"]));
}

#[test]
fn concurrent_pushes_to_one_tag_leave_one_of_them() {
    let server = Server::start();
    let pushed: Vec<_> = std::thread::scope(|scope| {
        let push = |number: u32| server.push_image("a", "latest", &format!("layer {number}"));
        let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || push(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let served = server.get("/v2/a/manifests/latest").bytes().unwrap();
    assert!(pushed.iter().any(|bytes| *bytes == served));
}

#[test]
fn a_manifest_with_a_subject_is_acknowledged() {
    let server = Server::start();
    let subject = Descriptor::of(OCI_MANIFEST, b"not pushed yet");
    server.push_blob("a", CONFIG);
    server.push_blob("a", b"one");
    let response = server.put_manifest("a", "v1", OCI_MANIFEST, &image("one", Some(subject.clone())));
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(header(&response, "oci-subject"), subject.digest.as_str());
}
