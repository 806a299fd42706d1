//! Tags, repositories and referrers, in pages.

mod support;

use carrack_oci::media_type::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use carrack_oci::{Descriptor, Digest};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{CONFIG, Server, expect_error, header, image, json as body};

fn list(server: &Server, path: &str) -> (Value, Option<String>) {
    let response = server.get(path);
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
    (body(response), link)
}

#[test]
fn base() {
    let server = Server::start();
    let response = server.get("/v2/");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
    expect_error(server.get("/"), 404, "UNSUPPORTED");
    expect_error(server.send(Method::POST, "/v2/"), 405, "UNSUPPORTED");
}

#[test]
fn tags_in_pages() {
    let server = Server::start();
    expect_error(server.get("/v2/a/tags/list"), 404, "NAME_UNKNOWN");
    let bytes = server.push_image("a", "v1", "one");
    for tag in ["v2", "V3", "_x", "latest"] {
        server.put_manifest("a", tag, OCI_MANIFEST, &bytes);
    }
    let all = json!(["V3", "_x", "latest", "v1", "v2"]);
    assert_eq!(list(&server, "/v2/a/tags/list"), (json!({"name": "a", "tags": all}), None));
    let (page, link) = list(&server, "/v2/a/tags/list?n=2");
    assert_eq!(page["tags"], json!(["V3", "_x"]));
    assert_eq!(link.as_deref(), Some("</v2/a/tags/list?n=2&last=_x>; rel=\"next\""));
    let (page, link) = list(&server, "/v2/a/tags/list?n=3&last=_x");
    assert_eq!((page["tags"].clone(), link), (json!(["latest", "v1", "v2"]), None));
    let (page, link) = list(&server, "/v2/a/tags/list?n=0");
    assert_eq!((page["tags"].clone(), link), (json!([]), None));
    assert_eq!(list(&server, "/v2/a/tags/list?last=b").0["tags"], json!(["latest", "v1", "v2"]));
    for number in ["-1", "x", "", "99999999999999999999999"] {
        expect_error(server.get(&format!("/v2/a/tags/list?n={number}")), 400, "UNSUPPORTED");
    }
}

#[test]
fn catalog_in_pages() {
    let server = Server::start();
    assert_eq!(list(&server, "/v2/_catalog"), (json!({"repositories": []}), None));
    for name in ["b", "a/x", "a-b", "a/x/y"] {
        server.push_image(name, "v1", "one");
    }
    server.push_blob("only/blobs", b"x");
    assert_eq!(list(&server, "/v2/_catalog").0["repositories"], json!(["a-b", "a/x", "a/x/y", "b"]));
    let (page, link) = list(&server, "/v2/_catalog?n=2");
    assert_eq!(page["repositories"], json!(["a-b", "a/x"]));
    assert_eq!(link.as_deref(), Some("</v2/_catalog?n=2&last=a%2Fx>; rel=\"next\""));
    assert_eq!(list(&server, "/v2/_catalog?n=2&last=a%2Fx").0["repositories"], json!(["a/x/y", "b"]));
}

fn push_referrer(server: &Server, subject: &Digest, artifact_type: Option<&str>, note: &str) -> Digest {
    let subject = Descriptor::new(OCI_MANIFEST, subject.clone(), 1);
    let mut manifest: Value = serde_json::from_slice(&image("one", Some(subject))).unwrap();
    manifest["annotations"] = json!({"note": note});
    if let Some(artifact_type) = artifact_type {
        manifest["artifactType"] = artifact_type.into();
    }
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let digest = Digest::of(&bytes);
    let response = server.put_manifest("a", digest.as_str(), OCI_MANIFEST, &bytes);
    assert_eq!(response.status(), StatusCode::CREATED);
    digest
}

#[test]
fn referrers_of_a_subject_that_does_not_exist() {
    let server = Server::start();
    let subject = Digest::of(b"not pushed");
    let path = format!("/v2/a/referrers/{subject}");
    let response = server.get(&path);
    assert_eq!(
        (response.status(), header(&response, "content-type")),
        (StatusCode::OK, OCI_INDEX.to_owned())
    );
    assert_eq!(body(response)["manifests"], json!([]));
    server.push_blob("a", CONFIG);
    server.push_blob("a", b"one");
    let bill = push_referrer(&server, &subject, Some("example/bill"), "x");
    let plain = push_referrer(&server, &subject, None, "y");
    push_referrer(&server, &Digest::of(b"another subject"), Some("example/bill"), "z");
    let (index, _) = list(&server, &path);
    let mut entries: Vec<Value> = index["manifests"].as_array().unwrap().clone();
    entries.sort_by_key(|entry| entry["annotations"]["note"].to_string());
    assert_eq!(entries.len(), 2);
    assert_eq!((&entries[0]["digest"], &entries[0]["artifactType"]), (&json!(bill), &json!("example/bill")));
    assert_eq!((&entries[1]["digest"], &entries[1]["artifactType"]), (&json!(plain), &json!(OCI_CONFIG)));
    let response = server.get(&format!("{path}?artifactType=example/bill"));
    assert_eq!(header(&response, "oci-filters-applied"), "artifactType");
    let filtered: Value = body(response);
    assert_eq!(filtered["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(
        server.send(Method::DELETE, &format!("/v2/a/manifests/{bill}")).status(),
        StatusCode::ACCEPTED
    );
    assert_eq!(list(&server, &path).0["manifests"].as_array().unwrap().len(), 1);
    expect_error(server.get("/v2/a/referrers/sha256:xyz"), 400, "DIGEST_INVALID");
    expect_error(server.get("/v2/a/referrers/latest"), 400, "DIGEST_INVALID");
}

#[test]
fn referrers_are_cut_before_an_index_is_too_large() {
    let server = Server::start();
    let subject = Digest::of(b"not pushed");
    server.push_blob("a", CONFIG);
    server.push_blob("a", b"one");
    let mut pushed: Vec<_> = (0..3)
        .map(|number| push_referrer(&server, &subject, Some("t"), &number.to_string().repeat(2 << 20)))
        .collect();
    pushed.sort();
    let mut path = format!("/v2/a/referrers/{subject}?artifactType=t");
    let mut seen = Vec::new();
    loop {
        let (index, link) = list(&server, &path);
        assert!(index.to_string().len() <= 4 << 20);
        seen.extend(index["manifests"].as_array().unwrap().iter().map(|entry| entry["digest"].clone()));
        let Some(link) = link else { break };
        path = link.strip_prefix('<').unwrap().split_once('>').unwrap().0.to_owned();
    }
    assert_eq!(json!(seen), json!(pushed));
}
