//! Manifests, configs and tag lists, honest and not.

use carrack_distribution::{Class, Error};
use carrack_oci::media_type::OCI_MANIFEST;
use carrack_oci::{Descriptor, Digest};

use crate::server::{Fault, Reply, Server};
use crate::{anonymous, blob, reference, repository};

const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;

fn manifest_reply() -> Reply {
    Reply::ok(MANIFEST).header("Content-Type", &format!("{OCI_MANIFEST}; charset=utf-8"))
}

#[test]
fn resolves_a_tag_with_all_media_types_accepted() {
    let server =
        Server::start(|_| manifest_reply().header("Docker-Content-Digest", Digest::of(MANIFEST).as_str()));
    let fetched = anonymous().resolve(&reference(&format!("{}/team/app", server.host()))).unwrap();
    assert_eq!(fetched.descriptor, Descriptor::of(OCI_MANIFEST, MANIFEST));
    assert_eq!(fetched.bytes, MANIFEST);
    let request = &server.seen()[0];
    assert!(request.is("GET", "/v2/team/app/manifests/latest"), "{request:?}");
    assert_eq!(request.header("user-agent"), Some("carrack-test/1"));
    let accept = request.header("accept").unwrap();
    assert!(carrack_oci::media_type::MANIFESTS.iter().all(|one| accept.contains(one)), "{accept}");
}

#[test]
fn a_digest_that_disagrees_is_refused() {
    let other = Digest::of(b"other");
    let announced = other.clone();
    let server = Server::start(move |_| manifest_reply().header("Docker-Content-Digest", announced.as_str()));
    let error = anonymous().resolve(&reference(&format!("{}/app", server.host()))).unwrap_err();
    assert!(matches!(&error, Error::DigestMismatch { expected, .. } if *expected == other), "{error}");

    let server = Server::start(|_| manifest_reply());
    let host = server.host();
    let error = anonymous().resolve(&reference(&format!("{host}/app:1@{other}"))).unwrap_err();
    assert!(matches!(&error, Error::DigestMismatch { .. }), "{error}");
    let descriptor = Descriptor::new(OCI_MANIFEST, Digest::of(MANIFEST), 5);
    let error = anonymous().manifest(&repository(&host, "app"), &descriptor).unwrap_err();
    assert!(error.to_string().contains("expected 5 bytes by the descriptor, got 19"), "{error}");

    let server = Server::start(|_| manifest_reply().header("Docker-Content-Digest", "sha256:../../x"));
    let error = anonymous().resolve(&reference(&format!("{}/app", server.host()))).unwrap_err();
    assert_eq!(error.class(), Class::Corrupt, "{error}");
}

#[test]
fn a_sha512_digest_is_checked_by_its_own_algorithm() {
    let mut hasher = format!("sha512:{}", "0".repeat(128)).parse::<Digest>().unwrap().hasher();
    hasher.update(MANIFEST);
    let digest = hasher.finish();
    let server = Server::start(|_| manifest_reply());
    let fetched = anonymous().resolve(&reference(&format!("{}/app@{digest}", server.host()))).unwrap();
    assert_eq!(fetched.descriptor.digest, digest);
}

#[test]
fn large_and_endless_documents_are_refused() {
    let eight_mib = vec![b' '; 8 << 20];
    let announced = eight_mib.clone();
    let announcing = Server::start(move |_| Reply::ok(&announced));
    let endless = Server::start(move |_| Reply::ok(&eight_mib).fault(Fault::Endless));
    for server in [announcing, endless] {
        let error = anonymous().resolve(&reference(&format!("{}/app", server.host()))).unwrap_err();
        assert!(error.to_string().contains("at most 4194304 bytes"), "{error}");
    }
}

#[test]
fn a_config_is_verified() {
    let (mut bytes, descriptor) = blob(1000);
    let honest = bytes.clone();
    let server = Server::start(move |_| Reply::ok(&honest));
    assert_eq!(anonymous().fetch_document(&repository(&server.host(), "app"), &descriptor).unwrap(), bytes);
    bytes[500] ^= 1;
    let server = Server::start(move |_| Reply::ok(&bytes));
    let error = anonymous().fetch_document(&repository(&server.host(), "app"), &descriptor).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    let huge = Descriptor { size: 8 << 20, ..descriptor };
    let error = anonymous().fetch_document(&repository(&server.host(), "app"), &huge).unwrap_err();
    assert_eq!(error.class(), Class::Refused, "{error}");
}

#[test]
fn tags_come_page_by_page() {
    let server = Server::start(|request| match request.target.as_str() {
        "/v2/app/tags/list?n=1000" => Reply::ok(br#"{"name":"app","tags":["a","b"]}"#)
            .header("Link", r#"</v2/app/tags/list?last=b&n=2>; rel="next""#),
        "/v2/app/tags/list?last=b&n=2" => Reply::ok(br#"{"name":"app","tags":["c"]}"#),
        _ => Reply::ok(br#"{"name":"x","tags":null}"#),
    });
    assert_eq!(anonymous().tags(&repository(&server.host(), "app")).unwrap(), ["a", "b", "c"]);
    assert_eq!(anonymous().tags(&repository(&server.host(), "x")).unwrap(), [""; 0]);
}

#[test]
fn hostile_tag_lists_are_refused() {
    let other = Server::start(|_| Reply::ok(br#"{"tags":["stolen"]}"#));
    let elsewhere = format!("<{}>; rel=next", other.url("/v2/app/tags/list"));
    for (body, link) in [
        (r#"{"tags":["a"]}"#, elsewhere.as_str()),
        (r#"{"tags":["a"]}"#, "</v2/app/tags/list?n=1000>; rel=next"),
        (r#"{"tags":["\u001b[2J"]}"#, ""),
        (r#"{"tags":["a"],"tags":["b"]}"#, ""),
        ("<html>", ""),
    ] {
        let (body, link) = (body.to_owned(), link.to_owned());
        let server = Server::start(move |_| Reply::ok(body.as_bytes()).header("Link", &link));
        let error = anonymous().tags(&repository(&server.host(), "app")).unwrap_err();
        assert!(matches!(error.class(), Class::Corrupt | Class::Refused), "{error}");
    }
    assert!(other.seen().is_empty());
}

fn catalog(host: &str) -> carrack_distribution::Result<Vec<String>> {
    let mut names = Vec::new();
    anonymous().catalog(host, &mut |name| {
        names.push(name);
        names.len() < 3
    })?;
    Ok(names)
}

#[test]
fn the_catalogue_comes_page_by_page_until_it_is_enough() {
    let server = Server::start(|request| match request.target.as_str() {
        "/v2/_catalog?n=1000" => Reply::ok(br#"{"repositories":["a","b/c"]}"#)
            .header("Link", r#"</v2/_catalog?last=b%2Fc&n=2>; rel="next""#),
        _ => Reply::ok(br#"{"repositories":["d","e"]}"#)
            .header("Link", r#"</v2/_catalog?last=e&n=2>; rel="next""#),
    });
    assert_eq!(catalog(&server.host()).unwrap(), ["a", "b/c", "d"]);
    let none = Server::start(|_| Reply::ok(br#"{"repositories":null}"#));
    assert_eq!(catalog(&none.host()).unwrap(), [""; 0]);
}

#[test]
fn hostile_catalogues_are_refused() {
    for (body, link) in [
        (r#"{"repositories":["a/../b"]}"#, ""),
        (r#"{"repositories":["\u001b[2J"]}"#, ""),
        (r#"{"repositories":["a"],"repositories":["b"]}"#, ""),
        (r#"{"repositories":[]}"#, "</v2/_catalog?n=1000>; rel=next"),
        (r#"{"repositories":["a"]}"#, "<http://127.0.0.2:1/v2/_catalog>; rel=next"),
        ("<html>", ""),
    ] {
        let server = Server::start(move |_| Reply::ok(body.as_bytes()).header("Link", link));
        let error = catalog(&server.host()).unwrap_err();
        assert!(matches!(error.class(), Class::Corrupt | Class::Refused), "{body}: {error}");
    }
}
