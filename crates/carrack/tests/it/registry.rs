//! carrack's client against carrack's registry: push, pull, passwords, what is already there, and the platform chosen.

use std::fs;
use std::path::Path;

use carrack_oci::{Index, media_type};
use carrack_testkit::{ImageFixture, Registry, Store};

use crate::kit::{CARRACK, IMAGE, busybox, digest, empty_store, host, id, run, store, with_input};

fn registry_with_password(store: &Store) -> Registry {
    let users = store.path().join("users");
    let line = host("htpasswd", ["-nbB", "-C", "5", "captain", "secret"]).line();
    fs::write(&users, format!("{line}\n")).unwrap();
    Registry::start_with(CARRACK, &["--htpasswd", users.to_str().unwrap()])
}

fn login(store: &Store, registry: &str, password: &str) -> (i32, String, String) {
    let mut command = store.command();
    command.args(["login", "--username", "captain", "--password-stdin", registry]);
    with_input(&mut command, format!("{password}\n").as_bytes())
}

#[test]
fn what_is_pushed_is_pulled_with_the_same_digest_and_runs() {
    let (registry, here, there) = (Registry::start(CARRACK), store(), empty_store());
    let name = format!("{}/team/app:1.0", registry.address());
    let digest_file = here.path().join("digest");
    here.carrack(["push", "--digestfile", digest_file.to_str().unwrap(), IMAGE, &name]).success();
    let pushed = fs::read_to_string(digest_file).unwrap();
    there.carrack(["pull", &name]).success();
    assert_eq!(digest(&there, &name), pushed.trim());
    assert_eq!(id(&there, &name), id(&here, IMAGE));
    let output = there.carrack(["run", "--rm", "--network", "none", &name, "echo", "ahoy"]).line();
    assert_eq!(output, "ahoy");
}

#[test]
fn a_digest_names_an_image_without_a_tag() {
    let (registry, here, there) = (Registry::start(CARRACK), store(), empty_store());
    let repository = format!("{}/app", registry.address());
    let digest = here.carrack(["push", "--quiet", IMAGE, &repository]).line();
    let name = format!("{repository}@{digest}");
    there.carrack(["pull", &name]).success();
    assert_eq!(id(&there, &name), busybox().id().to_string());
    let listed = there.carrack(["images", "--digests"]).success().stdout;
    assert!(listed.contains(&digest), "{listed}");
    let absent = format!("{repository}@sha256:{}", "0".repeat(64));
    let run = there.carrack(["pull", &absent]).code(1);
    assert!(run.stderr.contains(&"0".repeat(64)), "{}", run.stderr);
}

#[test]
fn a_password_is_asked_for_kept_and_forgotten() {
    let store = store();
    let registry = registry_with_password(&store);
    let name = format!("{}/app:1", registry.address());
    let refused = store.carrack(["push", IMAGE, &name]).code(1);
    assert!(refused.stderr.contains("login"), "{}", refused.stderr);
    let (code, _, errors) = login(&store, registry.address(), "secret");
    assert_eq!(code, 0, "{errors}");
    store.carrack(["push", IMAGE, &name]).success();
    store.carrack(["rmi", "--force", &id(&store, IMAGE)]).success();
    store.carrack(["pull", &name]).success();
    store.carrack(["logout", registry.address()]).success();
    store.carrack(["pull", &name]).code(1);
}

#[test]
fn a_wrong_password_is_an_error_that_shows_neither_and_is_not_kept() {
    let store = empty_store();
    let registry = registry_with_password(&store);
    let (code, output, errors) = login(&store, registry.address(), "s3cr3t-but-wrong");
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains(registry.address()), "{errors}");
    assert!(!output.contains("s3cr3t") && !errors.contains("s3cr3t"), "{output}{errors}");
    let kept = fs::read_to_string(store.path().join("home/.docker/config.json")).unwrap_or_default();
    assert!(!kept.contains(registry.address()), "{kept}");
}

#[test]
fn credentials_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let store = empty_store();
    let registry = registry_with_password(&store);
    assert_eq!(login(&store, registry.address(), "secret").0, 0);
    let file = store.path().join("home/.docker/config.json");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_unreachable_registry_is_named_with_a_hint() {
    let store = store();
    // The port was free a moment ago, and nothing listens on it.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let name = format!("{address}/app");
    for arguments in [&["pull", &name][..], &["push", IMAGE, &name]] {
        let run = store.carrack(arguments).code(1);
        assert!(run.stderr.contains(&address.to_string()), "{}", run.stderr);
        assert!(run.stderr.contains("hint: "), "{}", run.stderr);
    }
    let run = store.carrack(["run", "--rm", &name]).code(125);
    assert!(run.stderr.contains(&address.to_string()), "{}", run.stderr);
}

#[test]
fn layers_that_are_there_are_not_sent_again() {
    let (registry, store) = (Registry::start(CARRACK), store());
    let name = format!("{}/app", registry.address());
    let first = store.carrack(["push", IMAGE, &name]).success();
    assert!(!first.stderr.contains("already exists"), "{}", first.stderr);
    let second = store.carrack(["push", IMAGE, &name]).success();
    assert!(second.stderr.to_lowercase().contains("already exists"), "{}", second.stderr);
}

#[test]
fn a_layer_of_another_repository_is_mounted() {
    let (registry, here, there) = (Registry::start(CARRACK), store(), empty_store());
    let (first, second) = (format!("{}/first", registry.address()), format!("{}/second", registry.address()));
    here.carrack(["push", IMAGE, &first]).success();
    there.carrack(["pull", &first]).success();
    there.carrack(["tag", &first, &second]).success();
    let pushed = there.carrack(["push", &second]).success();
    assert!(pushed.stderr.to_lowercase().contains("mounted from"), "{}", pushed.stderr);
    let third = empty_store();
    third.carrack(["pull", &second]).success();
    assert_eq!(id(&third, &second), id(&here, IMAGE));
}

/// An OCI layout with an index of three platforms, an attestation, and the tag `multi`.
pub fn write_index(folder: &Path, platforms: &[(&str, &str, Option<&str>)]) {
    let mut entries = Vec::new();
    for (number, (os, architecture, variant)) in platforms.iter().enumerate() {
        let image = ImageFixture::new().layer(&format!("/platform \"{number}\"")).configure(|config| {
            config.os = (*os).to_owned();
            config.architecture = (*architecture).to_owned();
        });
        let mut entry = image.write_layout(folder, "unused");
        let platform = serde_json::json!({ "os": os, "architecture": architecture, "variant": variant });
        entry.platform = Some(serde_json::from_value(platform).unwrap());
        entries.push(entry);
    }
    let index = serde_json::to_vec(&Index::oci(entries)).unwrap();
    let mut root = carrack_oci::Descriptor::of(media_type::OCI_INDEX, &index);
    fs::write(folder.join("blobs/sha256").join(root.digest.hex()), &index).unwrap();
    root.annotations = Some([("org.opencontainers.image.ref.name".to_owned(), "multi".to_owned())].into());
    fs::write(folder.join("index.json"), serde_json::to_vec(&Index::oci(vec![root])).unwrap()).unwrap();
}

#[test]
fn the_platform_is_chosen_from_an_index() {
    let store = empty_store();
    let layout = store.path().join("layout");
    let here = carrack_oci::Platform::host();
    let platforms = [
        ("unknown", "unknown", None),
        ("linux", "arm64", Some("v8")),
        ("linux", here.architecture.as_str(), None),
        ("linux", "s390x", None),
    ];
    write_index(&layout, &platforms);
    let source = format!("oci:{}:multi", layout.display());
    for (flags, expected) in [
        (&["pull", "--quiet", &source][..], here.architecture.as_str()),
        (&["pull", "--quiet", "--platform", "linux/arm64", &source], "arm64"),
        (&["pull", "--quiet", "--platform", "linux/s390x", &source], "s390x"),
    ] {
        let id = store.carrack(flags).line();
        let architecture = store.carrack(["inspect", "--format", "{{.Architecture}}", &id]).line();
        assert_eq!(architecture, expected);
    }
    let run = store.carrack(["pull", "--platform", "linux/riscv64", &source]).code(1);
    assert!(run.stderr.contains("riscv64"), "{}", run.stderr);
}

#[test]
fn every_transport_brings_an_image_back_unchanged() {
    let store = store();
    for kind in ["oci", "oci-archive", "docker-archive", "dir"] {
        let place = format!("{kind}:{}", store.path().join(kind).display());
        store.carrack(["push", IMAGE, &place]).success();
        let there = empty_store();
        let id = there.carrack(["pull", "--quiet", &place]).line();
        assert_eq!(id, crate::kit::id(&store, IMAGE), "{kind}");
    }
    assert_eq!(run(&store, &[], "echo still here").line(), "still here");
}

#[test]
fn rmi_by_a_digest_takes_no_name_that_was_not_given() {
    let (registry, here, there) = (Registry::start(CARRACK), store(), empty_store());
    let repository = format!("{}/app", registry.address());
    let digest = here.carrack(["push", "--quiet", IMAGE, &format!("{repository}:1")]).line();
    here.carrack(["push", "--quiet", IMAGE, &format!("{repository}:2")]).success();
    there.carrack(["pull", "--all-tags", &repository]).success();
    let by_digest = format!("{repository}@{digest}");
    let run = there.carrack(["rmi", &by_digest]).code(1);
    assert!(run.stderr.contains("it has 2 names"), "{}", run.stderr);
    assert_eq!(there.carrack(["images", "--format", "{{.Tag}}"]).line(), "1\n2");
    there.carrack(["rmi", &format!("{repository}:1")]).success();
    there.carrack(["rmi", &by_digest]).success();
    assert_eq!(there.carrack(["images", "--quiet"]).line(), "");
}

#[test]
fn all_tags_of_a_repository_are_pushed_and_pulled() {
    let (registry, here, there) = (Registry::start(CARRACK), store(), empty_store());
    let repository = format!("{}/app", registry.address());
    for tag in ["1", "2"] {
        here.carrack(["tag", IMAGE, &format!("{repository}:{tag}")]).success();
    }
    here.carrack(["tag", IMAGE, &format!("{}/other:3", registry.address())]).success();
    here.carrack(["push", "--disable-content-trust", "--all-tags", &repository]).success();
    there.carrack(["pull", "-a", "--quiet", &repository]).success();
    let names = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
    assert_eq!(there.carrack(names).line(), format!("{repository}:1\n{repository}:2"));
    for command in ["push", "pull"] {
        let run = here.carrack([command, "--all-tags", &format!("{repository}:1")]).code(125);
        assert!(run.stderr.contains("without tag"), "{}", run.stderr);
    }
    there.carrack(["pull", "--disable-content-trust=false", &repository]).code(125);
}

#[test]
fn a_pull_tells_whether_the_name_means_something_new() {
    let (registry, here, there) = (Registry::start(CARRACK), store(), empty_store());
    let name = format!("{}/app:1", registry.address());
    here.carrack(["push", "--quiet", IMAGE, &name]).success();
    let pull = || there.carrack(["pull", &name]).success().stdout;
    assert!(pull().contains("Status: Downloaded newer image for"));
    assert!(pull().contains("Status: Image is up to date for"));
    // Another image of the same layers.
    let image = busybox().configure(|config| config.author = Some("another".to_owned()));
    here.load(&image, "localhost/other:1");
    here.carrack(["push", "--quiet", "localhost/other:1", &name]).success();
    assert!(pull().contains("Status: Downloaded newer image for"));
    let events =
        there.carrack(["events", "--since", "2020-01-01", "--stream=false", "--filter", "event=pull"]);
    assert_eq!(events.success().stdout.lines().count(), 3);
    let run = there.carrack(["pull", "--platform", "linux/s390x", &name]).success();
    assert!(run.stderr.contains("does not match the wanted platform linux/s390x"), "{}", run.stderr);
}

#[test]
fn a_push_that_keeps_digests_sends_no_single_image_of_an_index() {
    let (registry, store) = (Registry::start(CARRACK), empty_store());
    let layout = store.path().join("layout");
    let here = carrack_oci::Platform::host();
    write_index(&layout, &[("linux", here.architecture.as_str(), None), ("linux", "s390x", None)]);
    let id = store.carrack(["pull", "--quiet", &format!("oci:{}:multi", layout.display())]).line();
    let name = format!("{}/app:1", registry.address());
    let run = store.carrack(["push", "--preserve-digests", &id, &name]).code(1);
    assert!(run.stderr.contains("copy --all"), "{}", run.stderr);
}
