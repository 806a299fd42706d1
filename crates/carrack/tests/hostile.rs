//! Images of an enemy, from a layout and from a registry: refused with a clear error or made harmless, and never a
//! trace outside the store, nor a blob or snapshot in it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use carrack_oci::{Descriptor, DiffId, Digest, Index, media_type};
use carrack_testkit::{FixtureLayer, ImageFixture, LayerFormat, Store, TarWriter};
use serde_json::{Value, json};

#[path = "it/kit.rs"]
#[allow(dead_code, reason = "each suite uses its own part of the kit")]
mod kit;

use kit::{IMAGE, assert_nothing_is_left, empty_store, files_below};

const TAG: &str = "evil";
const CANARY: &str = "nobody has written here";

/// What an enemy serves under [`TAG`].
#[derive(Clone)]
struct Offer {
    root: Descriptor,
    root_bytes: Vec<u8>,
    /// By what they are asked for, which need not be what they are.
    blobs: Vec<(Digest, Vec<u8>)>,
}

impl Offer {
    fn of(image: &ImageFixture) -> Self {
        let blobs = image.blobs().into_iter().map(|(descriptor, bytes)| (descriptor.digest, bytes)).collect();
        Self { root: image.manifest(), root_bytes: image.manifest_bytes(), blobs }
    }

    /// The image with another manifest, whose own descriptor is right.
    fn with_manifest(image: &ImageFixture, change: impl FnOnce(&mut Value)) -> Self {
        let mut manifest = serde_json::from_slice(&image.manifest_bytes()).unwrap();
        change(&mut manifest);
        Self::of(image).rooted(media_type::OCI_MANIFEST, serde_json::to_vec(&manifest).unwrap())
    }

    /// The image with another document in the place of its manifest.
    fn rooted(self, media_type: &str, root_bytes: Vec<u8>) -> Self {
        Self { root: Descriptor::of(media_type, &root_bytes), root_bytes, ..self }
    }

    /// The image with other bytes under the digest of its first layer.
    fn with_layer_bytes(image: &ImageFixture, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut offer = Self::of(image);
        let digest = &image.layers()[0].descriptor.digest;
        let (_, bytes) = offer.blobs.iter_mut().find(|(of, _)| of == digest).unwrap();
        change(bytes);
        offer
    }

    fn write_layout(&self, folder: &Path) {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for (digest, bytes) in self.blobs.iter().chain([&(self.root.digest.clone(), self.root_bytes.clone())])
        {
            fs::write(blobs.join(digest.hex()), bytes).unwrap();
        }
        let mut entry = self.root.clone();
        entry.annotations = Some([("org.opencontainers.image.ref.name".to_owned(), TAG.to_owned())].into());
        fs::write(folder.join("index.json"), serde_json::to_vec(&Index::oci(vec![entry])).unwrap()).unwrap();
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }

    /// Serves until the test's process ends; returns the address.
    fn serve(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let offer = self.clone();
                thread::spawn(move || offer.answer(stream));
            }
        });
        address
    }

    /// Answers one request. The client may go away at any time.
    fn answer(&self, stream: TcpStream) -> Option<()> {
        let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
        let request = lines.next()?.ok()?;
        while !lines.next()?.ok()?.is_empty() {}
        let path = request.split(' ').nth(1)?;
        let (status, media_type, body) = match path.rsplit_once('/')? {
            ("/v2", "") => ("200 OK", "application/json", &b"{}"[..]),
            ("/v2/app/manifests", _) => ("200 OK", self.root.media_type.as_str(), &self.root_bytes[..]),
            (_, name) => match self.blobs.iter().find(|(digest, _)| digest.as_str() == name) {
                Some((_, bytes)) => ("200 OK", "application/octet-stream", &bytes[..]),
                None => ("404 Not Found", "application/json", &b"{}"[..]),
            },
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n");
        let mut stream = stream;
        stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).ok()?;
        if request.starts_with("GET ") {
            stream.write_all(body).ok()?;
        }
        Some(())
    }
}

/// A store with a file beside it that nothing may change.
fn store_with_canary() -> Store {
    let store = empty_store();
    fs::create_dir(store.path().join("outside")).unwrap();
    fs::write(store.path().join("outside/canary"), CANARY).unwrap();
    store
}

/// Nothing was written outside the store's own folders.
#[track_caller]
fn assert_no_trace_outside(store: &Store) {
    assert_eq!(fs::read_to_string(store.path().join("outside/canary")).unwrap(), CANARY);
    let own = ["root", "run", "home", "layout", "registries.conf"].map(|name| store.path().join(name));
    let mut strays = files_below(store.path());
    strays.retain(|path| !own.iter().any(|own| path.starts_with(own)));
    assert_eq!(strays, [store.path().join("outside/canary")]);
    assert!(fs::symlink_metadata("/escape").is_err());
}

/// Pulls the offer from a layout and from a registry; each time it must be refused with all of `said`.
#[track_caller]
fn assert_refused(offer: &Offer, said: &[&str]) {
    for from_registry in [false, true] {
        let store = store_with_canary();
        let source = if from_registry {
            format!("{}/app:{TAG}", offer.clone().serve())
        } else {
            offer.write_layout(&store.path().join("layout"));
            format!("oci:{}:{TAG}", store.path().join("layout").display())
        };
        let run = store.carrack(["pull", &source]).code(1);
        assert!(run.stderr.starts_with("error: cannot pull "), "{}", run.stderr);
        for word in said {
            assert!(run.stderr.contains(word), "{word:?} is not in: {}", run.stderr);
        }
        assert_eq!(run.stdout, "");
        assert_no_trace_outside(&store);
        assert_nothing_is_left(&store);
    }
}

fn good() -> ImageFixture {
    ImageFixture::new().layer("/etc/motd \"ahoy\\n\"")
}

/// An image of one layer that is written as text.
fn layer(lines: &str) -> Offer {
    Offer::of(&ImageFixture::new().layer(lines))
}

#[test]
fn the_same_way_takes_an_honest_image() {
    let store = store_with_canary();
    let offer = Offer::of(&good());
    offer.write_layout(&store.path().join("layout"));
    let id =
        store.carrack(["pull", "-q", &format!("oci:{}:{TAG}", store.path().join("layout").display())]).line();
    assert_eq!(store.carrack(["pull", "-q", &format!("{}/app:{TAG}", offer.serve())]).line(), id);
    assert_no_trace_outside(&store);
}

#[test]
fn layers_that_are_not_what_their_digest_says() {
    let image = good();
    let digest = image.layers()[0].descriptor.digest.hex().to_owned();
    let digest = &digest[..12];
    assert_refused(&Offer::with_layer_bytes(&image, |bytes| bytes[20] ^= 1), &[digest]);
    assert_refused(&Offer::with_layer_bytes(&image, |bytes| bytes.truncate(bytes.len() / 2)), &[digest]);
    assert_refused(&Offer::with_layer_bytes(&image, |bytes| bytes.push(0)), &[digest]);
    assert_refused(&Offer::with_layer_bytes(&image, Vec::clear), &[digest]);
}

#[test]
fn a_missing_layer_and_a_missing_config() {
    let image = good();
    for number in 0..2 {
        let mut offer = Offer::of(&image);
        let (digest, _) = offer.blobs.remove(number);
        assert_refused(&offer, &[&digest.hex()[..12]]);
    }
}

#[test]
fn a_gzip_stream_that_ends_early_under_a_right_digest() {
    let whole = FixtureLayer::of_tar(&ImageFixture::tar("/a \"1\""), LayerFormat::Gzip);
    let bytes = whole.bytes[..whole.bytes.len() - 9].to_vec();
    let descriptor = Descriptor::of(media_type::OCI_LAYER_GZIP, &bytes);
    let layer = FixtureLayer { descriptor, bytes, ..whole };
    assert_refused(&Offer::of(&ImageFixture::new().push(layer)), &["layer 1 of 1"]);
}

#[test]
fn a_diff_id_of_another_tar() {
    let mut layer = FixtureLayer::of_tar(&ImageFixture::tar("/a \"1\""), LayerFormat::Gzip);
    let promised = Digest::of(b"another tar");
    layer.diff_id = DiffId(promised.clone());
    assert_refused(&Offer::of(&ImageFixture::new().push(layer)), &["diff ID", promised.hex()]);
}

#[test]
fn sizes_that_lie() {
    let image = good();
    let size = image.layers()[0].descriptor.size;
    for lie in [0, size - 1, size + 1, 1 << 40] {
        let offer = Offer::with_manifest(&image, |manifest| manifest["layers"][0]["size"] = lie.into());
        assert_refused(&offer, &[&image.layers()[0].descriptor.digest.hex()[..12]]);
    }
    for lie in [json!(-1), json!("7"), json!(1.5), Value::Null] {
        let offer = Offer::with_manifest(&image, |manifest| manifest["layers"][0]["size"] = lie.clone());
        assert_refused(&offer, &["invalid manifest"]);
    }
}

#[test]
fn names_that_leave_the_root() {
    for lines in [
        "../escape \"x\"",
        "/a/\n/a/../../escape \"x\"",
        "../../../../../../../../escape \"x\"",
        "../outside/canary \"x\"",
        "/etc/../../escape -> x",
        "../escape/",
    ] {
        assert_refused(&layer(lines), &["layer 1 of 1", ".."]);
    }
}

#[test]
fn hard_links_out_of_the_root() {
    for lines in ["/hard => ../../../../outside/canary", "/a/\n/a/hard => ../../../../../../../../etc/passwd"]
    {
        assert_refused(&layer(lines), &["layer 1 of 1"]);
    }
}

#[test]
fn whiteouts_of_what_is_not_below_the_root() {
    for name in ["/.wh..", "/.wh...", "/a/.wh..", "../.wh.outside"] {
        assert_refused(&layer(&format!("{name} \"\"")), &["layer 1 of 1"]);
    }
}

/// Links may point anywhere: they mean the container's root. What is written through one must stay there.
#[test]
fn entries_through_links_stay_below_the_root() {
    let store = store_with_canary();
    let outside = store.path().join("outside");
    let outside = outside.to_str().unwrap();
    for lines in [
        format!("/link -> {outside}\n/link/escape \"x\""),
        format!("/link -> {outside}\n/link/canary \"x\""),
        format!("/link -> {outside}/canary\n/link \"x\""),
        format!("/link -> {outside}/canary\n/hard => /link\n/hard \"x\""),
        format!("/link -> {outside}\n/hard => /link/canary\n/hard \"x\""),
        format!("/d/\n/d/a \"1\"\n/d -> {outside}\n/d/canary \"x\""),
        format!("/d/\n/d -> {outside}\n/d/ 0777\n/d/canary \"x\""),
        format!("/ -> {outside}\n/canary \"x\""),
        format!("/link -> {outside}\n/link/canary whiteout"),
        format!("/link -> {outside}\n/link/ opaque"),
        "/link -> ../../../../../../..\n/link/escape \"x\"".to_owned(),
        "/link -> /proc/self/cwd\n/link/escape \"x\"".to_owned(),
        "/link -> /proc/self/root\n/link/escape \"x\"".to_owned(),
    ] {
        layer(&lines).write_layout(&store.path().join("layout"));
        let run = store.carrack(["pull", &format!("oci:{}:{TAG}", store.path().join("layout").display())]);
        assert!(run.code == 0 || run.stderr.contains("layer 1 of 1"), "{lines}: {}", run.stderr);
        assert_no_trace_outside(&store);
    }
}

/// The link is in one layer and what goes through it in the next.
#[test]
fn a_link_for_a_folder_of_the_layer_below() {
    let store = store_with_canary();
    let outside = store.path().join("outside");
    for (lower, upper) in [
        (format!("/d -> {}", outside.display()), "/d/canary \"x\"".to_owned()),
        ("/d/\n/d/canary \"1\"".to_owned(), format!("/d -> {}\n/d/canary \"x\"", outside.display())),
        (format!("/d -> {}", outside.display()), "/d/canary whiteout".to_owned()),
    ] {
        let image = kit::busybox().layer(&lower).layer(&upper);
        Offer::of(&image).write_layout(&store.path().join("layout"));
        let run =
            store.carrack(["pull", "-q", &format!("oci:{}:{TAG}", store.path().join("layout").display())]);
        assert!(run.code == 0 || run.stderr.contains("layer "), "{lower:?} {upper:?}: {}", run.stderr);
        if run.code == 0 {
            let script = "cat /d/canary; rm -rf /d/canary; echo x > /d/canary";
            let id = image.id();
            store.carrack(["run", "--rm", "--network", "none", id.as_str(), "sh", "-c", script]);
        }
        assert_no_trace_outside(&store);
    }
}

#[test]
fn an_absolute_name_means_the_image_s_own_root() {
    let store = store_with_canary();
    let canary = store.path().join("outside/canary");
    let tar = TarWriter::new().file("/escape", b"x").file(canary.to_str().unwrap(), b"x").finish();
    let image = kit::busybox().push(FixtureLayer::of_tar(&tar, LayerFormat::Gzip));
    store.load(&image, IMAGE);
    assert_no_trace_outside(&store);
    assert_eq!(kit::run(&store, &[], &format!("cat /escape {}", canary.display())).line(), "xx");
}

/// Device files of an image exist, and open nothing: no container has more devices than its own.
#[test]
fn device_files_of_an_image_are_harmless() {
    let store = store_with_canary();
    let devices =
        "/evil/\n/evil/zero 0666 c 1:5\n/evil/mem 0666 c 1:1\n/evil/disk 0666 b 8:0\n/evil/fifo 0666 p";
    let image = kit::busybox().layer(devices);
    store.load(&image, IMAGE);
    for device in ["zero", "mem", "disk"] {
        let run = kit::run(&store, &[], &format!("head -c 1 /evil/{device}"));
        assert!(run.code != 0 && run.stderr.to_lowercase().contains("permission denied"), "{run:?}");
    }
    // Neither do those that a root in a container makes by itself.
    let run = kit::run(&store, &[], "busybox mknod /made c 1:5 && head -c 1 /made");
    assert_ne!(run.code, 0, "{run:?}");
    // Files that programs read at every start are not waited for when they are FIFOs.
    let image = kit::busybox()
        .layer("/etc/passwd whiteout\n/etc/group whiteout")
        .layer("/etc/passwd p\n/etc/group p");
    store.load(&image, "localhost/fifo:1");
    let flags = ["run", "--rm", "--network", "none", "--user", "nobody", "localhost/fifo:1", "true"];
    assert_ne!(store.carrack(flags).code, 0);
}

#[test]
fn unsupported_media_types_are_named() {
    let image = good();
    let strange = "application/vnd.example.thing.v1+rar";
    let config = Offer::with_manifest(&image, |manifest| manifest["config"]["mediaType"] = strange.into());
    assert_refused(&config, &[strange, "config"]);
    let layer = Offer::with_manifest(&image, |manifest| manifest["layers"][0]["mediaType"] = strange.into());
    assert_refused(&layer, &[strange, "layer"]);
    assert_refused(&Offer::of(&image).rooted(strange, image.manifest_bytes()), &[strange]);
}

#[test]
fn an_index_without_the_platform() {
    let image = good();
    let mut entry = image.manifest();
    entry.platform = Some(serde_json::from_value(json!({ "os": "linux", "architecture": "s390x" })).unwrap());
    let index = serde_json::to_vec(&Index::oci(vec![entry])).unwrap();
    let offer = Offer::of(&image).rooted(media_type::OCI_INDEX, index);
    assert_refused(&offer, &["linux/s390x", "--platform"]);
    let empty = serde_json::to_vec(&Index::oci(Vec::new())).unwrap();
    assert_refused(&Offer::of(&image).rooted(media_type::OCI_INDEX, empty), &["no image for"]);
}

#[test]
fn an_index_of_an_index() {
    let image = good();
    let inner = serde_json::to_vec(&Index::oci(vec![image.manifest()])).unwrap();
    let mut entry = Descriptor::of(media_type::OCI_INDEX, &inner);
    entry.platform = Some(carrack_oci::Platform::host());
    let outer = serde_json::to_vec(&Index::oci(vec![entry.clone()])).unwrap();
    let mut offer = Offer::of(&image).rooted(media_type::OCI_INDEX, outer);
    offer.blobs.push((entry.digest, inner));
    assert_refused(&offer, &[]);
}

#[test]
fn a_manifest_of_more_than_4_mib() {
    let offer = Offer::with_manifest(&good(), |manifest| {
        manifest["annotations"] = json!({ "padding": "x".repeat(5 << 20) });
    });
    assert_refused(&offer, &["bytes"]);
}

#[test]
fn documents_that_are_two_things_at_once_or_none() {
    let image = good();
    let both = Offer::with_manifest(&image, |manifest| manifest["manifests"] = json!([]));
    assert_refused(&both, &["manifest"]);
    let twice = String::from_utf8(image.manifest_bytes()).unwrap();
    let twice = twice.replacen('{', r#"{"schemaVersion":2,"layers":[],"#, 1).into_bytes();
    assert_refused(&Offer::of(&image).rooted(media_type::OCI_MANIFEST, twice), &["duplicate"]);
    for change in [json!(null), json!({}), json!("layers")] {
        let offer = Offer::with_manifest(&image, |manifest| manifest["layers"] = change.clone());
        assert_refused(&offer, &[]);
    }
    for bytes in [&b"<html></html>"[..], b"", b"null", b"[]", b"{\"schemaVersion\":2}"] {
        assert_refused(&Offer::of(&image).rooted(media_type::OCI_MANIFEST, bytes.to_vec()), &[]);
    }
}

#[test]
fn digests_that_are_paths() {
    let image = good();
    for digest in ["sha256:../../../outside/canary", "../outside/canary", "sha256:", "md5:00", "sha256:ABC"] {
        let config = Offer::with_manifest(&image, |manifest| manifest["config"]["digest"] = digest.into());
        assert_refused(&config, &["digest"]);
        let layer = Offer::with_manifest(&image, |manifest| manifest["layers"][0]["digest"] = digest.into());
        assert_refused(&layer, &["digest"]);
    }
}

#[test]
fn a_config_that_does_not_fit_its_layers() {
    let more = good().configure(|config| {
        let again = config.rootfs.diff_ids[0].clone();
        config.rootfs.diff_ids.push(again);
    });
    assert_refused(&Offer::of(&more), &["1", "2"]);
    let fewer = good().configure(|config| config.rootfs.diff_ids.clear());
    assert_refused(&Offer::of(&fewer), &["0", "1"]);
}
