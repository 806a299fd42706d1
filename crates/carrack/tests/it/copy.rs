//! `carrack copy` between any two places: every digest stays, and what is there is not sent again.

use std::fs;

use carrack_testkit::{Registry, Store};

use crate::kit::{CARRACK, IMAGE, busybox, digest, empty_store, files_below, id, store};
use crate::registry::write_index;

/// The names of the places that a test copies through, in a store's folder.
struct Places<'a>(&'a Store);

impl Places<'_> {
    fn at(&self, transport: &str, name: &str) -> String {
        let path = self.0.path().join(name).display().to_string();
        let tag = if transport.starts_with("oci") { ":copied" } else { "" };
        format!("{transport}:{path}{tag}")
    }
}

#[track_caller]
fn copy(store: &Store, flags: &[&str], from: &str, to: &str) -> String {
    store.carrack([&["copy", "--quiet"], flags, &[from, to]].concat()).line()
}

#[test]
fn one_image_passes_through_every_place_with_its_digest() {
    let (first, second) = (Registry::start(CARRACK), Registry::start(CARRACK));
    let store = store();
    let places = Places(&store);
    let expected = digest(&store, IMAGE);
    let stations = [
        format!("store:{IMAGE}"),
        format!("docker://{}/one/app:1", first.address()),
        places.at("oci", "layout"),
        places.at("oci-archive", "oci.tar"),
        places.at("docker-archive", "docker.tar"),
        places.at("dir", "folder"),
        format!("{}/two/app:1", second.address()),
        format!("{}/three/app:1", second.address()),
        "containers-storage:localhost/copied:1".to_owned(),
        places.at("dir", "last"),
    ];
    for pair in stations.windows(2) {
        assert_eq!(copy(&store, &[], &pair[0], &pair[1]), expected, "{} to {}", pair[0], pair[1]);
    }
    assert_eq!(digest(&store, "localhost/copied:1"), expected);
    assert_eq!(id(&store, "localhost/copied:1"), busybox().id().to_string());
    let last = fs::read(store.path().join("last/manifest.json")).unwrap();
    assert_eq!(carrack_oci::Digest::of(&last).to_string(), expected);
}

#[test]
fn an_index_is_copied_with_all_its_images_or_with_one() {
    let (first, second) = (Registry::start(CARRACK), Registry::start(CARRACK));
    let store = empty_store();
    let places = Places(&store);
    let host = carrack_oci::Platform::host();
    let other = if host.architecture == "s390x" { "ppc64le" } else { "s390x" };
    let layout = store.path().join("index");
    write_index(&layout, &[("linux", &host.architecture, None), ("linux", other, None)]);
    let source = format!("oci:{}:multi", layout.display());
    let stations = [
        source.clone(),
        format!("{}/multi:1", first.address()),
        places.at("oci-archive", "all.tar"),
        places.at("dir", "all"),
        "store:localhost/multi:1".to_owned(),
        format!("{}/multi:1", second.address()),
        format!("{}/mounted:1", second.address()),
    ];
    let expected = copy(&store, &["--all"], &stations[0], &stations[1]);
    for pair in stations[1..].windows(2) {
        assert_eq!(copy(&store, &["--all"], &pair[0], &pair[1]), expected, "{} to {}", pair[0], pair[1]);
    }
    // Both images are there, whole: a store pulls either of them.
    for architecture in [host.architecture.as_str(), other] {
        let there = empty_store();
        let platform = format!("linux/{architecture}");
        let id = there.carrack(["pull", "--quiet", "--platform", &platform, stations.last().unwrap()]).line();
        let pulled = there.carrack(["inspect", "--format", "{{.Architecture}}", &id]).line();
        assert_eq!(pulled, architecture);
    }
    let platform = format!("linux/{other}");
    let one = copy(&store, &["--platform", &platform], &stations[1], &places.at("docker-archive", "one.tar"));
    assert_ne!(one, expected);
    let refused = store.carrack(["copy", "--all", &source, &places.at("docker-archive", "no.tar")]).code(1);
    assert!(refused.stderr.contains("one platform"), "{}", refused.stderr);
    let refused =
        store.carrack(["copy", "--platform", "linux/riscv64", &source, &places.at("dir", "no")]).code(1);
    assert!(refused.stderr.contains("riscv64"), "{}", refused.stderr);
}

#[test]
fn what_the_destination_has_is_not_sent_and_other_repositories_are_mounted() {
    let (registry, store) = (Registry::start(CARRACK), store());
    let places = Places(&store);
    let (one, two) = (format!("{}/one:1", registry.address()), format!("{}/two:1", registry.address()));
    store.carrack(["copy", &format!("store:{IMAGE}"), &one]).success();
    let mounted = store.carrack(["copy", &one, &two]).success();
    assert!(mounted.stderr.contains("Mounted from another repository"), "{}", mounted.stderr);
    assert!(!mounted.stderr.contains(": Pushed"), "{}", mounted.stderr);
    let layout = places.at("oci", "layout");
    store.carrack(["copy", &two, &layout]).success();
    let again = store.carrack(["copy", &two, &layout]).success();
    assert!(
        again.stderr.contains("Already exists") && !again.stderr.contains("Complete"),
        "{}",
        again.stderr
    );
}

#[test]
fn a_blob_that_is_not_its_digest_reaches_no_destination() {
    let (registry, store) = (Registry::start(CARRACK), empty_store());
    let layout = store.path().join("layout");
    let image = busybox();
    image.write_layout(&layout, "bad");
    let layer = &image.layers()[0];
    let mut bytes = layer.bytes.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(layout.join("blobs/sha256").join(layer.descriptor.digest.hex()), bytes).unwrap();
    let source = format!("oci:{}:bad", layout.display());
    let places = Places(&store);
    let name = format!("{}/bad:1", registry.address());
    for destination in
        [&name, &places.at("oci", "copied"), &places.at("dir", "copied-dir"), "store:localhost/bad:1"]
    {
        let run = store.carrack(["copy", &source, destination]).code(1);
        let digest = layer.descriptor.digest.to_string();
        assert!(run.stderr.contains(&digest), "{destination}: {}", run.stderr);
    }
    assert!(!store.path().join("copied-dir").exists());
    empty_store().carrack(["pull", &name]).code(1);
    assert!(store.carrack(["images", "--quiet"]).line().is_empty());
    let copied = files_below(&store.path().join("copied/blobs"));
    assert!(!copied.iter().any(|file| file.ends_with(layer.descriptor.digest.hex())), "{copied:?}");
}

#[test]
fn places_that_cannot_be_are_refused() {
    let store = store();
    let refused = store.carrack(["copy", &format!("store:{IMAGE}"), "store:other:1"]).code(1);
    assert!(refused.stderr.contains("carrack tag"), "{}", refused.stderr);
    let absent = store.carrack(["copy", "store:absent", "oci:absent:1"]).code(1);
    assert!(absent.stderr.contains("no such image"), "{}", absent.stderr);
    store.carrack(["copy", "store:", "dir:x"]).code(125);
    let other =
        store.carrack(["copy", "--platform", "linux/s390x", &format!("store:{IMAGE}"), "dir:absent"]).code(1);
    assert!(other.stderr.contains("the store has it for"), "{}", other.stderr);
}
