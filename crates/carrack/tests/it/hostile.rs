//! Bad input from a layout or a registry: a clear error, exit code 1, and nothing that could be used.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;

use carrack_oci::{Descriptor, DiffId, Digest, Index, Manifest, media_type};
use carrack_testkit::{FixtureLayer, ImageFixture, LayerFormat, Run, Store};

use crate::kit::{empty_store, files_below};

/// No snapshot, finished or not, and no image is in the store.
#[track_caller]
fn assert_nothing_is_usable(store: &Store) {
    for folder in ["active", "committed", "staging"] {
        let folder = store.root().join("snapshots").join(folder);
        let left: Vec<_> = fs::read_dir(folder).into_iter().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert_eq!(store.carrack(["images", "--quiet"]).line(), "");
}

/// The store is as empty as it was before.
#[track_caller]
pub fn assert_nothing_is_left(store: &Store) {
    assert_nothing_is_usable(store);
    let left = files_below(&store.root().join("content"));
    assert!(left.is_empty(), "{left:?}");
}

fn layout(store: &Store) -> PathBuf {
    store.path().join("layout")
}

#[track_caller]
fn pull(store: &Store) -> Run {
    store.carrack(["pull", &format!("oci:{}:evil", layout(store).display())])
}

/// Pulls `image` from a layout; it must be refused with all of `said`.
#[track_caller]
fn assert_refused(image: &ImageFixture, said: &[&str]) {
    let store = empty_store();
    image.write_layout(&layout(&store), "evil");
    assert_refusal(&store, said);
}

#[track_caller]
fn assert_refusal(store: &Store, said: &[&str]) {
    let run = pull(store).code(1);
    assert!(run.stderr.contains("error: cannot pull"), "{}", run.stderr);
    for word in said {
        assert!(run.stderr.contains(word), "{word:?} is not in: {}", run.stderr);
    }
    assert_nothing_is_left(store);
}

fn good() -> ImageFixture {
    ImageFixture::new().layer("/etc/motd \"ahoy\\n\"")
}

fn blob(store: &Store, digest: &Digest) -> PathBuf {
    layout(store).join("blobs/sha256").join(digest.hex())
}

#[test]
fn a_good_image_of_the_same_kind_is_taken() {
    let store = empty_store();
    good().write_layout(&layout(&store), "evil");
    pull(&store).success();
}

#[test]
fn a_layer_with_another_digest_is_refused() {
    let store = empty_store();
    let image = good();
    image.write_layout(&layout(&store), "evil");
    let layer = &image.layers()[0];
    let mut bytes = layer.bytes.clone();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(blob(&store, &layer.descriptor.digest), bytes).unwrap();
    assert_refusal(&store, &[&layer.descriptor.digest.hex()[..12]]);
}

#[test]
fn a_layer_whose_tar_has_another_diff_id_is_refused() {
    let mut layer = FixtureLayer::of_tar(&ImageFixture::tar("/a \"1\""), LayerFormat::Gzip);
    let promised = Digest::of(b"another tar");
    layer.diff_id = DiffId(promised.clone());
    assert_refused(&ImageFixture::new().push(layer), &[&promised.hex()[..12]]);
}

#[test]
fn a_truncated_layer_is_refused() {
    let store = empty_store();
    let image = good();
    image.write_layout(&layout(&store), "evil");
    let layer = &image.layers()[0];
    fs::write(blob(&store, &layer.descriptor.digest), &layer.bytes[..layer.bytes.len() / 2]).unwrap();
    assert_refusal(&store, &[&layer.descriptor.digest.hex()[..12]]);
}

#[test]
fn a_gzip_stream_that_ends_early_is_refused_though_its_digest_is_right() {
    let whole = FixtureLayer::of_tar(&ImageFixture::tar("/a \"1\""), LayerFormat::Gzip);
    let bytes = whole.bytes[..whole.bytes.len() - 9].to_vec();
    let descriptor = Descriptor::of(media_type::OCI_LAYER_GZIP, &bytes);
    assert_refused(&ImageFixture::new().push(FixtureLayer { descriptor, bytes, ..whole }), &["layer"]);
}

#[test]
fn a_config_with_another_number_of_layers_is_refused() {
    let image = good().configure(|config| {
        let again = config.rootfs.diff_ids[0].clone();
        config.rootfs.diff_ids.push(again);
    });
    assert_refused(&image, &["1", "2"]);
}

/// Entries that name a place outside: refused, and whatever they name stays as it was.
#[test]
fn entries_that_leave_the_root_are_refused() {
    for lines in ["../escape \"x\"", "/a/\n/a/../../escape \"x\"", "/etc/../../../escape -> x"] {
        let store = empty_store();
        ImageFixture::new().layer(lines).write_layout(&layout(&store), "evil");
        let run = pull(&store).code(1);
        assert!(run.stderr.contains("escape"), "{lines}: {}", run.stderr);
        assert_nothing_is_usable(&store);
        assert_no_escape(&store);
    }
}

#[track_caller]
fn assert_no_escape(store: &Store) {
    let outside: Vec<_> =
        files_below(store.path()).into_iter().filter(|path| path.ends_with("escape")).collect();
    assert!(outside.is_empty() && !Path::new("/escape").exists(), "{outside:?}");
}

/// A link out of the root, then an entry through it: it is either refused or stays below the root.
#[test]
fn entries_through_links_do_not_leave_the_root() {
    let store = empty_store();
    let outside = store.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("target"), "unchanged").unwrap();
    let outside_name = outside.display();
    for lines in [
        format!("/link -> {outside_name}\n/link/escape \"x\""),
        format!("/link -> {outside_name}/target\n/link \"changed\""),
        format!("/hard => ../../../../../../../../..{outside_name}/target\n/hard \"changed\""),
        "/link -> ../../../../../..\n/link/escape \"x\"".to_owned(),
        format!("/ -> {outside_name}\n/escape \"x\""),
        format!("/d/\n/d -> {outside_name}\n/d/escape \"x\""),
    ] {
        ImageFixture::new().layer(&lines).write_layout(&layout(&store), "evil");
        let code = pull(&store).code;
        assert!(code == 0 || code == 1, "{lines}: {code}");
        assert_eq!(fs::read_to_string(outside.join("target")).unwrap(), "unchanged", "{lines}");
        assert_eq!(files_below(&outside), [outside.join("target")], "{lines}");
        assert!(!Path::new("/escape").exists(), "{lines}");
    }
}

#[test]
fn an_absolute_name_stays_below_the_root() {
    let store = crate::kit::store();
    let outside = store.path().join("escape");
    let tar = carrack_testkit::TarWriter::new().file(outside.to_str().unwrap(), b"x").finish();
    let layer = FixtureLayer::of_tar(&tar, LayerFormat::Gzip);
    ImageFixture::new().push(layer).write_layout(&layout(&store), "evil");
    let code = pull(&store).code;
    assert!(code == 0 || code == 1, "{code}");
    assert!(!outside.exists());
}

#[test]
fn a_whiteout_of_the_parent_folder_is_refused() {
    for name in ["/.wh..", "/.wh...", "/a/.wh.."] {
        assert_refused(&good().layer(&format!("{name} \"\"")), &["layer"]);
    }
}

#[test]
fn unknown_media_types_are_refused_by_name() {
    let mut layer = FixtureLayer::of_tar(&ImageFixture::tar("/a \"1\""), LayerFormat::Tar);
    layer.descriptor.media_type = "application/vnd.example.layer.v1+rar".to_owned();
    assert_refused(&ImageFixture::new().push(layer), &["application/vnd.example.layer.v1+rar"]);
}

/// Replaces the manifest of a good image by other bytes, with a right descriptor.
#[track_caller]
fn with_manifest(media_type: &str, change: impl FnOnce(&mut serde_json::Value)) -> Store {
    let store = empty_store();
    let image = good();
    image.write_layout(&layout(&store), "evil");
    let mut manifest = serde_json::from_slice(&image.manifest_bytes()).unwrap();
    change(&mut manifest);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let mut entry = Descriptor::of(media_type, &bytes);
    fs::write(blob(&store, &entry.digest), bytes).unwrap();
    entry.annotations = Some([("org.opencontainers.image.ref.name".to_owned(), "evil".to_owned())].into());
    fs::write(layout(&store).join("index.json"), serde_json::to_vec(&Index::oci(vec![entry])).unwrap())
        .unwrap();
    store
}

#[test]
fn documents_that_are_ambiguous_or_lie_are_refused() {
    let oci = media_type::OCI_MANIFEST;
    assert_refusal(
        &with_manifest("application/vnd.example.manifest", |_| {}),
        &["application/vnd.example.manifest"],
    );
    assert_refusal(
        &with_manifest(oci, |manifest| manifest["manifests"] = serde_json::json!([])),
        &["manifest"],
    );
    assert_refusal(&with_manifest(oci, |manifest| manifest["layers"] = serde_json::Value::Null), &["null"]);
    assert_refusal(&with_manifest(oci, |manifest| manifest["layers"][0]["size"] = 7.into()), &["7"]);
    assert_refusal(
        &with_manifest(oci, |manifest| manifest["layers"][0]["digest"] = "sha256:../../../etc/passwd".into()),
        &["digest"],
    );
}

/// A registry that says what it is told: path -> media type and body. It serves until the test ends.
fn scripted(answers: Vec<(String, String, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let mut request = String::new();
            let _ = reader.read_line(&mut request);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
                line.clear();
            }
            let path = request.split(' ').nth(1).unwrap_or_default();
            let answer = answers.iter().find(|(of, ..)| of == path);
            let (status, media_type, body) = match answer {
                Some((_, media_type, body)) => ("200 OK", media_type.as_str(), body.as_slice()),
                None => ("404 Not Found", "application/json", &b"{}"[..]),
            };
            let body = if request.starts_with("HEAD") { &[][..] } else { body };
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nConnection: close\r\n");
            let mut stream = reader.into_inner();
            let _ = stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            let _ = stream.write_all(body);
        }
    });
    address
}

fn answers(
    image: &ImageFixture,
    change: impl Fn(&Descriptor, &mut Vec<u8>),
) -> Vec<(String, String, Vec<u8>)> {
    let mut answers: Vec<_> = image
        .blobs()
        .into_iter()
        .map(|(descriptor, mut bytes)| {
            change(&descriptor, &mut bytes);
            (format!("/v2/app/blobs/{}", descriptor.digest), descriptor.media_type.to_string(), bytes)
        })
        .collect();
    let manifest = answers.pop().expect("the manifest is the last");
    answers.push(("/v2/app/manifests/latest".to_owned(), manifest.1, manifest.2));
    answers
}

#[test]
fn a_registry_that_alters_a_layer_is_found_out() {
    let image = good();
    let layer = image.layers()[0].descriptor.digest.clone();
    let address = scripted(answers(&image, |descriptor, bytes| {
        if descriptor.digest == layer {
            bytes[20] ^= 1;
        }
    }));
    let store = empty_store();
    let run = store.carrack(["pull", &format!("{address}/app")]).code(1);
    assert!(run.stderr.contains(&layer.hex()[..12]), "{}", run.stderr);
    assert_nothing_is_usable(&store);
}

#[test]
fn a_registry_with_an_unknown_manifest_is_refused() {
    let body = serde_json::to_vec(&Manifest::oci(Descriptor::of("text/plain", b"{}"), Vec::new())).unwrap();
    let path = "/v2/app/manifests/latest".to_owned();
    for (media_type, body) in [("text/html", b"<html>".to_vec()), ("application/vnd.example", body)] {
        let address = scripted(vec![(path.clone(), media_type.to_owned(), body)]);
        let store = empty_store();
        let run = store.carrack(["pull", &format!("{address}/app")]).code(1);
        assert!(run.stderr.contains(&address), "{}", run.stderr);
        assert_nothing_is_usable(&store);
    }
}
