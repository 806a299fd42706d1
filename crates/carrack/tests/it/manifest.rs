//! Manifest lists: made of images here and in a registry, changed, shown and pushed with every digest kept; and the
//! catalogue of a registry.

use carrack_oci::{Digest, media_type};
use carrack_testkit::{ImageFixture, Registry, Store};
use serde_json::{Value, json};

use crate::kit::{CARRACK, assert_nothing_is_left, digest, empty_store, host, id};

fn image(architecture: &str) -> ImageFixture {
    ImageFixture::new().layer(&format!("/architecture \"{architecture}\"")).configure(|config| {
        config.architecture = architecture.to_owned();
        config.os = "linux".to_owned();
    })
}

fn inspect(store: &Store, name: &str) -> (Value, Digest) {
    let bytes = store.carrack(["manifest", "inspect", name]).success().stdout;
    (serde_json::from_str(&bytes).unwrap(), Digest::of(bytes.as_bytes()))
}

/// A store with two images, and a list of both.
fn with_list() -> Store {
    let store = empty_store();
    store.load(&image("amd64"), "app:amd64");
    store.load(&image("arm64"), "app:arm64");
    store.carrack(["manifest", "create", "list:1", "app:amd64"]).success();
    store.carrack(["manifest", "add", "list:1", "app:arm64", "--variant", "v8"]).success();
    store
}

#[test]
fn a_list_is_made_changed_and_shown() {
    let store = with_list();
    let (list, _) = inspect(&store, "list:1");
    assert_eq!(list["mediaType"], media_type::OCI_INDEX);
    assert_eq!(list["manifests"][0]["digest"], json!(image("amd64").manifest().digest));
    assert_eq!(list["manifests"][0]["platform"], json!({"architecture": "amd64", "os": "linux"}));
    let arm = json!({"architecture": "arm64", "os": "linux", "variant": "v8"});
    assert_eq!(list["manifests"][1]["platform"], arm);
    let again = store.carrack(["manifest", "create", "list:1"]).code(1);
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);
    store.carrack(["manifest", "create", "--amend", "list:1", "app:amd64"]).success();
    let flags = ["--os-version", "10", "--features", "sse4,avx", "--os-features", "x", "--annotation", "a=b"];
    let annotate = [&["manifest", "annotate", "list:1", "app:amd64"], &flags[..]].concat();
    let printed = store.carrack(annotate).line();
    store.carrack(["manifest", "annotate", "--index", "--annotation", "team=boats", "list:1"]).success();
    let (list, digest) = inspect(&store, "list:1");
    assert_ne!(printed, digest.to_string());
    assert_eq!(list["annotations"], json!({"team": "boats"}));
    let entry = &list["manifests"][0];
    assert_eq!(entry["annotations"], json!({"a": "b"}));
    assert_eq!(entry["platform"]["os.version"], "10");
    assert_eq!(
        (&entry["platform"]["features"], &entry["platform"]["os.features"]),
        (&json!(["sse4", "avx"]), &json!(["x"]))
    );
    let arm = image("arm64").manifest().digest;
    store.carrack(["manifest", "remove", "list:1", arm.as_str()]).success();
    assert_eq!(inspect(&store, "list:1").0["manifests"].as_array().unwrap().len(), 1);
    let absent = store.carrack(["manifest", "remove", "list:1", arm.as_str()]).code(1);
    assert!(absent.stderr.contains(arm.as_str()), "{}", absent.stderr);
    let listed = store.carrack(["manifest", "ls", "--format", "{{.Name}} {{.Images}} {{.Digest}}"]).line();
    assert_eq!(listed, format!("list:1 1 {}", inspect(&store, "list:1").1));
    store.carrack(["manifest", "exists", "list:1"]).success();
    store.carrack(["manifest", "rm", "list:1"]).success();
    store.carrack(["manifest", "exists", "list:1"]).code(1);
    for arguments in [&["rm", "list:1"][..], &["add", "list:1", "app:amd64"], &["push", "list:1"]] {
        let run = store.carrack([&["manifest"], arguments].concat()).code(1);
        assert!(run.stderr.contains("no such list"), "{}", run.stderr);
    }
}

#[test]
fn what_a_list_names_outlives_the_images_name_and_goes_with_the_list() {
    let store = with_list();
    store.carrack(["rmi", "app:amd64", "app:arm64"]).success();
    assert_eq!(store.carrack(["images", "-q"]).line(), "");
    let layout = format!("oci:{}:1", store.path().join("layout").display());
    let pushed = store.carrack(["manifest", "push", "list:1", &layout]).line();
    assert_eq!(pushed, inspect(&store, "list:1").1.to_string());
    let there = empty_store();
    for architecture in ["amd64", "arm64"] {
        let platform = format!("linux/{architecture}");
        let got = there.carrack(["pull", "--quiet", "--platform", &platform, &layout]).line();
        assert_eq!(got, image(architecture).id().to_string());
    }
    store.carrack(["manifest", "rm", "list:1"]).success();
    assert_nothing_is_left(&store);
}

#[test]
fn a_list_is_pushed_with_its_images_and_the_registry_has_the_same_bytes() {
    let (registry, store, there) = (Registry::start(CARRACK), with_list(), empty_store());
    let name = format!("{}/team/app:1", registry.address());
    let (_, expected) = inspect(&store, "list:1");
    let without = store.carrack(["manifest", "push", "--all=false", "list:1", &name]).code(1);
    assert!(!without.stderr.is_empty());
    let file = store.path().join("digest");
    let flags = ["--digestfile", file.to_str().unwrap(), "--purge"];
    let pushed = store.carrack([&["manifest", "push"], &flags[..], &["list:1", &name]].concat()).line();
    assert_eq!(pushed, expected.to_string());
    assert_eq!(std::fs::read_to_string(file).unwrap(), pushed);
    store.carrack(["manifest", "exists", "list:1"]).code(1);
    assert_eq!(inspect(&there, &name).1, expected, "shown without being pulled");
    assert_eq!(there.carrack(["images", "-q"]).line(), "");
    there.carrack(["pull", "--platform", "linux/arm64", &name]).success();
    assert_eq!((id(&there, &name), digest(&there, &name)), (image("arm64").id().to_string(), pushed));
    assert_eq!(inspect(&there, &name).1, expected, "shown of what was pulled");
    let raw = host("skopeo", ["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    assert_eq!(Digest::of(raw.success().stdout.as_bytes()), expected);
}

#[test]
fn images_of_registries_go_through_a_list_unchanged() {
    let (first, second) = (Registry::start(CARRACK), Registry::start(CARRACK));
    let (store, there) = (with_list(), empty_store());
    let (source, target) =
        (format!("{}/app:1", first.address()), format!("docker://{}/copy:2", second.address()));
    store.carrack(["manifest", "push", "list:1", &source]).success();
    let (list, _) = inspect(&store, &source);
    let elsewhere = empty_store();
    elsewhere.carrack(["manifest", "create", "copy", "--all", &format!("docker://{source}")]).success();
    assert_eq!(inspect(&elsewhere, "copy").0["manifests"], list["manifests"]);
    let one = format!("docker://{source}");
    elsewhere.carrack(["manifest", "create", "--amend", "copy", &one]).success();
    assert_eq!(inspect(&elsewhere, "copy").0["manifests"].as_array().unwrap().len(), 2, "it is known");
    elsewhere.carrack(["manifest", "push", "--format", "v2s2", "copy", &target]).success();
    let (copied, _) = inspect(&there, &target);
    assert_eq!(copied["mediaType"], media_type::DOCKER_MANIFEST_LIST);
    assert_eq!(copied["manifests"], list["manifests"]);
    there.carrack(["pull", "--platform", "linux/arm64", &target]).success();
    elsewhere.carrack(["manifest", "rm", "copy"]).success();
    assert_nothing_is_left(&elsewhere);
}

#[test]
fn an_image_that_was_made_here_has_one_digest_in_the_list_and_in_the_registry() {
    let (registry, store) = (Registry::start(CARRACK), empty_store());
    let tar = store.path().join("rootfs.tar");
    std::fs::write(&tar, ImageFixture::tar("/etc/\n/etc/motd \"ahoy\\n\"")).unwrap();
    store.carrack(["import", tar.to_str().unwrap(), "made:1"]).success();
    let name = format!("{}/made:1", registry.address());
    store.carrack(["manifest", "create", &name, "made:1"]).success();
    let (list, expected) = inspect(&store, &name);
    assert_eq!(list["manifests"][0]["digest"], digest(&store, "made:1"));
    assert_eq!(store.carrack(["manifest", "push", &name]).line(), expected.to_string());
    let there = empty_store();
    there.carrack(["pull", &name]).success();
    assert_eq!(id(&there, &name), id(&store, "made:1"));
}

#[test]
fn search_reads_the_catalogue() {
    let (registry, store) = (Registry::start(CARRACK), empty_store());
    store.load(&image("amd64"), "app:1");
    for name in ["team/app:1", "team/app:2", "team/tool:1", "app:1"] {
        store.carrack(["push", "app:1", &format!("{}/{name}", registry.address())]).success();
    }
    let address = registry.address();
    let search = |flags: &[&str], term: &str| {
        let term = format!("{address}/{term}");
        store.carrack([&["search", "--format", "{{.Name}}"], flags, &[&term]].concat()).line()
    };
    assert_eq!(search(&[], "app"), format!("{address}/app\n{address}/team/app"));
    assert_eq!(search(&[], "").lines().count(), 3);
    assert_eq!(search(&["--limit", "1"], "team"), format!("{address}/team/app"));
    assert_eq!(search(&["--filter", "stars=1"], "app"), "");
    assert_eq!(search(&[], "nothing"), "");
    let tags = store.carrack(["search", "--list-tags", &format!("{address}/team/app")]).line();
    assert_eq!(
        tags.lines().skip(1).map(|line| line.split_whitespace().last()).collect::<Vec<_>>(),
        [Some("1"), Some("2")]
    );
    let hub = store.carrack(["search", "app"]).code(1);
    assert!(hub.stderr.contains("docker.io") && hub.stderr.contains("no catalogue"), "{}", hub.stderr);
    store.carrack(["search", "--filter", "colour=red", "x"]).code(125);
}
