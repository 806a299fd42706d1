//! What digest an image has where it is pushed: its own, wherever the exact bytes of its layers can be had.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use carrack_testkit::{ImageFixture, Registry, Store};

use crate::kit::{CARRACK, IMAGE, busybox, digest, empty_store, files_below, host, id, store};

/// Has the store keep the layers of `image` as tars only, as a driver does that never unpacks.
fn keep_tars_only(store: &Store, image: &ImageFixture) {
    let blobs = store.root().join("content/blobs/sha256");
    for layer in image.layers() {
        let (blob, tar) = (blobs.join(layer.descriptor.digest.hex()), blobs.join(layer.diff_id.0.hex()));
        if blob.exists() && blob != tar {
            let script = format!("gzip -dc < {} > {}", blob.display(), tar.display());
            host("sh", ["-c", &script]).success();
            fs::remove_file(blob).unwrap();
        }
    }
}

/// A store that has pulled the busybox image from `registry` and keeps its layers as tars only; with its name there.
fn store_with_pulled(registry: &Registry) -> (Store, String) {
    let name = format!("{}/origin/app:1", registry.address());
    store().carrack(["push", IMAGE, &name]).success();
    let there = empty_store();
    there.carrack(["pull", &name]).success();
    keep_tars_only(&there, &busybox());
    (there, name)
}

fn origins(store: &Store) -> Vec<PathBuf> {
    let mut files = files_below(&store.root().join("layer-origins"));
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files
}

/// An image of one layer that was made in the store and never compressed.
fn import(store: &Store, name: &str) {
    let tar = store.path().join("rootfs.tar");
    let lines = format!("/bin/\n/bin/sh 0755 <(/bin/busybox)\n/name \"{name}\"\n");
    fs::write(&tar, ImageFixture::tar(&lines)).unwrap();
    store.carrack(["import", "--quiet", tar.to_str().unwrap(), name]).success();
}

fn layer_types(store: &Store, location: &str) -> String {
    let folder = store.path().join("looked-at");
    let destination = format!("dir:{}", folder.display());
    store.carrack(["copy", location, &destination]).success();
    fs::read_to_string(folder.join("manifest.json")).unwrap()
}

#[test]
fn a_pulled_image_keeps_its_digest_with_and_without_kept_blobs() {
    let (first, second) = (Registry::start(CARRACK), Registry::start(CARRACK));
    let (there, name) = store_with_pulled(&first);
    let copy = format!("{}/copy/app:1", second.address());
    let pushed = there.carrack(["push", "--quiet", "--preserve-digests", &name, &copy]).line();
    assert_eq!(pushed, digest(&there, &name), "streamed from where it came from");
    let kept = store();
    let again = format!("{}/again/app:1", second.address());
    assert_eq!(kept.carrack(["push", "--quiet", IMAGE, &again]).line(), pushed);
    let third = empty_store();
    third.carrack(["pull", &copy]).success();
    assert_eq!((digest(&third, &copy), id(&third, &copy)), (pushed, busybox().id().to_string()));
}

#[test]
fn without_its_origin_an_image_is_pushed_under_another_digest_or_not_at_all() {
    let second = Registry::start(CARRACK);
    let (there, name) = store_with_pulled(&Registry::start(CARRACK));
    let copy = format!("{}/copy/app:1", second.address());
    let refused = there.carrack(["push", "--preserve-digests", &name, &copy]).code(1);
    assert!(refused.stderr.contains("cannot be kept"), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: "), "{}", refused.stderr);
    let blobs = files_below(&second.path().join("root/registry/content/blobs"));
    assert_eq!(blobs, Vec::<PathBuf>::new(), "nothing was sent");
    let pushed = there.carrack(["push", "--quiet", &name, &copy]).success();
    assert!(pushed.stderr.contains("warning: the digest of the image changes"), "{}", pushed.stderr);
    assert_ne!(pushed.stdout.trim(), digest(&there, &name), "the name still means what was pulled");
    let third = empty_store();
    third.carrack(["pull", &copy]).success();
    assert_eq!(id(&third, &copy), busybox().id().to_string());
    // What was compressed for the first push is known now, and needs no second upload or warning.
    let other = format!("{}/copy/app:2", second.address());
    let again = there.carrack(["push", &name, &other]).success();
    assert!(again.stderr.contains("Already exists"), "{}", again.stderr);
    assert!(!again.stderr.contains("Pushed"), "{}", again.stderr);
}

#[test]
fn what_was_made_here_is_compressed_once_and_made_again_by_its_recipe() {
    let (first, second) = (Registry::start(CARRACK), Registry::start(CARRACK));
    let store = empty_store();
    import(&store, "localhost/made:1");
    let (one, two) = (format!("{}/made:1", first.address()), format!("{}/made:1", second.address()));
    let pushed = store.carrack(["push", "--quiet", "localhost/made:1", &one]).line();
    assert_eq!(digest(&store, "localhost/made:1"), pushed, "the record names what was pushed");
    assert_eq!(origins(&store).len(), 1);
    let origin = fs::read_to_string(&origins(&store)[0]).unwrap();
    assert!(origin.contains("gzip:6") && origin.contains(first.address()), "{origin}");
    let layer = origins(&store)[0].file_stem().unwrap().to_str().unwrap().replace("sha256-", "");
    assert!(
        !store.root().join("content/blobs/sha256").join(layer).exists(),
        "the compressed blob is not kept"
    );
    drop(first);
    let again = store.carrack(["push", "--preserve-digests", "localhost/made:1", &two]).success();
    assert!(again.stdout.contains(&pushed) && !again.stderr.contains("Compressing"), "{again:?}");
    let there = empty_store();
    there.carrack(["pull", &two]).success();
    assert_eq!(digest(&there, &two), pushed);
}

#[test]
fn a_recipe_that_makes_other_bytes_is_dropped() {
    let (first, second) = (Registry::start(CARRACK), Registry::start(CARRACK));
    let store = empty_store();
    import(&store, "localhost/made:1");
    let (one, two) = (format!("{}/made:1", first.address()), format!("{}/made:1", second.address()));
    let pushed = store.carrack(["push", "--quiet", "localhost/made:1", &one]).line();
    let file = &origins(&store)[0];
    let origin = fs::read_to_string(file).unwrap().replace("gzip:6", "gzip:1");
    fs::write(file, origin).unwrap();
    let failed = store.carrack(["push", "localhost/made:1", &two]).code(1);
    assert!(failed.stderr.contains("mismatch"), "{}", failed.stderr);
    let retried = store.carrack(["push", "--quiet", "--preserve-digests", "localhost/made:1", &two]).line();
    assert_eq!(retried, pushed, "fetched from where it was pushed to");
}

#[test]
fn compression_is_chosen_forced_or_left_alone() {
    let (registry, store) = (Registry::start(CARRACK), empty_store());
    import(&store, "localhost/made:1");
    let name = |tag: &str| format!("{}/made:{tag}", registry.address());
    let zstd =
        store.carrack(["push", "-q", "--compression", "zstd:5", "localhost/made:1", &name("zstd")]).line();
    assert!(layer_types(&store, &name("zstd")).contains("tar+zstd"));
    let levelled = ["--compression-format", "zstd", "--compression-level", "5"];
    let push = |flags: &[&str], tag: &str| {
        store.carrack([&["push", "-q"], flags, &["localhost/made:1", &name(tag)]].concat()).line()
    };
    assert_eq!(push(&levelled, "zstd"), zstd, "the same level gives the same bytes");
    assert_eq!(push(&[], "same"), zstd, "what is compressed stays");
    assert_eq!(push(&["--compression", "gzip", "--force-compression=false"], "same"), zstd);
    assert_eq!(push(&["--compression", "zstd"], "same"), zstd, "any level will do");
    let gzip = push(&["--compression", "gzip"], "gzip");
    assert_ne!(gzip, zstd);
    assert!(layer_types(&store, &name("gzip")).contains("tar+gzip"));
    let refused = store.carrack([
        "push",
        "--preserve-digests",
        "--compression",
        "gzip",
        "localhost/made:1",
        &name("refused"),
    ]);
    assert!(refused.clone().code(1).stderr.contains("cannot be kept"), "{}", refused.stderr);
    import(&store, "localhost/plain:1");
    store.carrack(["push", "--compression", "none", "localhost/plain:1", &name("plain")]).success();
    assert!(layer_types(&store, &name("plain")).contains("layer.v1.tar\""));
    for value in ["lz4", "gzip:10", "zstd:chunked"] {
        store.carrack(["push", "--compression", value, "localhost/made:1", &name("bad")]).code(125);
    }
}

#[test]
fn what_a_killed_push_has_sent_is_not_sent_again() {
    let (registry, store) = (Registry::start(CARRACK), empty_store());
    let tar = store.path().join("large.tar");
    let script = format!(
        "head -c 30000000 /dev/urandom > {0}/large && tar -cf {1} -C {0} large",
        store.path().display(),
        tar.display()
    );
    host("sh", ["-c", &script]).success();
    store.carrack(["import", "--quiet", tar.to_str().unwrap(), "localhost/large:1"]).success();
    let name = format!("{}/large:1", registry.address());
    let mut command = store.command();
    let command =
        command.args(["push", "localhost/large:1", &name]).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let pushed = lines.find(|line| line.ends_with(": Pushed")).expect("a blob is sent before all are");
    child.kill().unwrap();
    child.wait().unwrap();
    let again = store.carrack(["push", "--preserve-digests", "localhost/large:1", &name]).success();
    let short = pushed.split(':').next().unwrap();
    assert!(again.stderr.contains(&format!("{short}: Already exists")), "{}", again.stderr);
    assert!(!again.stderr.contains("Compressing"), "the recipe of the first push is known: {}", again.stderr);
    let there = empty_store();
    there.carrack(["pull", &name]).success();
    assert_eq!(digest(&there, &name), digest(&store, "localhost/large:1"));
    let left = files_below(&store.root().join("content/ingest"));
    assert_eq!(left, Vec::<PathBuf>::new(), "what is compressed for a push has no name");
}

#[test]
fn origins_go_with_the_last_image_that_names_their_layers() {
    let registry = Registry::start(CARRACK);
    let (there, name) = store_with_pulled(&registry);
    assert_eq!(origins(&there).len(), busybox().layers().len());
    there.carrack(["rmi", &name]).success();
    assert_eq!(origins(&there), Vec::<PathBuf>::new());
    assert!(Path::new(&there.root().join("layer-origins")).is_dir());
}

#[test]
fn a_save_in_an_oci_format_makes_layers_again_and_says_when_it_cannot() {
    let registry = Registry::start(CARRACK);
    let here = store();
    import(&here, "localhost/made:1");
    let name = format!("{}/team/made:1", registry.address());
    here.carrack(["push", "localhost/made:1", &name]).success();
    let archive = here.path().join("made.tar").display().to_string();
    let saved =
        here.carrack(["save", "--format", "oci-archive", "-o", &archive, "localhost/made:1"]).success();
    assert!(!saved.stderr.contains("warning"), "{}", saved.stderr);
    let there = empty_store();
    there.carrack(["load", "-q", "-i", &archive]).success();
    assert_eq!(digest(&there, "localhost/made:1"), digest(&here, "localhost/made:1"));
    // The bytes of a layer that others have compressed are lost with the blob, and no registry is asked.
    let (pulled, name) = store_with_pulled(&registry);
    let archive = pulled.path().join("pulled.tar").display().to_string();
    let saved = pulled.carrack(["save", "--format", "oci-archive", "-o", &archive, &name]).success();
    assert!(saved.stderr.contains("warning: the manifest digest changes"), "{}", saved.stderr);
    let there = empty_store();
    there.carrack(["load", "-q", "-i", &archive]).success();
    assert_eq!(id(&there, &name), id(&pulled, &name));
    assert_ne!(digest(&there, &name), digest(&pulled, &name));
}

#[test]
fn wrong_bytes_of_an_earlier_process_are_fetched_again() {
    let registry = Registry::start(CARRACK);
    let name = format!("{}/team/app:1", registry.address());
    store().carrack(["push", IMAGE, &name]).success();
    let there = empty_store();
    let image = busybox();
    let layer = &image.layers()[0].descriptor;
    let partial = there.root().join("content/ingest").join(format!("sha256-{}", layer.digest.hex()));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, vec![0; usize::try_from(layer.size / 2).unwrap()]).unwrap();
    there.carrack(["pull", "-q", &name]).success();
    assert_eq!(there.carrack(["run", "--rm", "--network", "none", &name, "echo", "fine"]).line(), "fine");
    assert!(files_below(&there.root().join("content/ingest")).is_empty());
}

#[test]
fn layers_are_pushed_plain_where_that_is_asked_for() {
    let registry = Registry::start(CARRACK);
    let (there, name) = store_with_pulled(&registry);
    let plain = format!("{}/plain/app:1", registry.address());
    there.carrack(["push", "--preserve-digests", "--compression", "none", &name, &plain]).code(1);
    there.carrack(["push", "--compression", "none", &name, &plain]).success();
    let types = layer_types(&there, &format!("docker://{plain}"));
    assert!(!types.contains("gzip") && types.contains("tar"), "{types}");
    let other = empty_store();
    other.carrack(["pull", "--quiet", &plain]).success();
    assert_eq!(id(&other, &plain), id(&there, &name));
    let run = there.carrack(["push", "--compression", "foo", &name, &plain]).code(125);
    assert!(run.stderr.contains("gzip[:1-9], zstd[:1-22] or none"), "{}", run.stderr);
}
