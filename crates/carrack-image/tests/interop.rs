//! Layouts and archives exchanged with skopeo, umoci and podman: each reads what the other wrote, digests equal.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use carrack_content::ContentStore;
use carrack_image::Image;
use carrack_image::transport::{self, Location, Root, Source};
use carrack_oci::{Descriptor, Digest};
use carrack_testkit::ImageFixture;
use serde_json::Value;

fn fixture() -> ImageFixture {
    ImageFixture::new()
        .layer("/etc/ 0755\n/etc/hosts 0644 0:0 \"127.0.0.1 localhost\\n\"")
        .layer("/etc/hosts whiteout\n/etc/motd \"hello\\n\"")
        .configure(|config| config.config.cmd = Some(vec!["/bin/true".to_owned()]))
}

/// Whether a peer is installed; a test without its peer says so and passes.
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        let _ = writeln!(std::io::stderr(), "skipped: {program} is not installed");
    }
    found
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn skopeo(arguments: &[&str]) -> String {
    run(Command::new("skopeo").arg("--insecure-policy").args(arguments))
}

/// What skopeo takes a location's manifest to be.
fn skopeo_manifest(location: &str) -> Digest {
    Digest::of(skopeo(&["inspect", "--raw", location]).as_bytes())
}

fn source(location: &str, scratch: &Path) -> Box<dyn Source> {
    location.parse::<Location>().unwrap().source(scratch).unwrap()
}

/// Reads an image as a pull would: every blob verified. Returns the manifest's digest and the image ID.
fn read_all(source: &dyn Source) -> (Digest, Digest) {
    let (descriptor, bytes) = source.root().unwrap();
    assert_eq!(descriptor.digest, Digest::of(&bytes));
    let manifest: carrack_oci::Manifest = serde_json::from_slice(&bytes).unwrap();
    let config = read(source, &manifest.config);
    let image = Image::parse(&descriptor, &bytes, &config).unwrap();
    for layer in image.layers() {
        read(source, layer.descriptor);
    }
    (descriptor.digest, image.id().clone())
}

fn read(source: &dyn Source, descriptor: &Descriptor) -> Vec<u8> {
    let mut bytes = Vec::new();
    source.blob(descriptor).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(Descriptor::of(&descriptor.media_type, &bytes).digest, descriptor.digest);
    bytes
}

fn write(image: &ImageFixture, location: &str, names: &[&str]) {
    let mut destination = location.parse::<Location>().unwrap().destination().unwrap();
    let manifest = image.manifest();
    for (descriptor, bytes) in image.blobs() {
        match descriptor == manifest {
            true => destination.put_manifest(&descriptor, &bytes).unwrap(),
            false => destination.put_blob(&descriptor, &mut bytes.as_slice()).unwrap(),
        }
    }
    let names = names.iter().map(|name| name.parse().unwrap()).collect();
    destination.finish(&[Root { descriptor: manifest, names }]).unwrap();
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn content(&self) -> ContentStore {
        ContentStore::open(&self.at("content")).unwrap()
    }

    fn location(&self, transport: &str, name: &str) -> String {
        format!("{transport}:{}", self.at(name).display())
    }
}

#[test]
fn skopeo_reads_what_we_write() {
    if !has("skopeo") {
        return;
    }
    let (scratch, image) = (Scratch::new(), fixture());
    for (transport, name, suffix) in
        [("oci", "layout", ":tag"), ("oci-archive", "layout.tar", ":tag"), ("dir", "folder", "")]
    {
        let location = scratch.location(transport, name) + suffix;
        write(&image, &location, &[]);
        assert_eq!(skopeo_manifest(&location), image.manifest().digest, "{location}");
        let copy = scratch.location("dir", &format!("copy-of-{name}"));
        skopeo(&["copy", &location, &copy]);
        assert_eq!(skopeo_manifest(&copy), image.manifest().digest, "{location}");
    }
    let location = scratch.location("docker-archive", "docker.tar");
    write(&image, &location, &["host.example/app:1"]);
    let copy = scratch.location("oci", "copy-of-docker") + ":x";
    skopeo(&["copy", &format!("{location}:host.example/app:1"), &copy]);
    let manifest: Value = serde_json::from_str(&skopeo(&["inspect", "--raw", &copy])).unwrap();
    // Skopeo turns Docker's config into OCI's, so that the image ID changes; the layers stay.
    let config: Value = serde_json::from_str(&skopeo(&["inspect", "--raw", "--config", &location])).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"][1], image.layers()[1].diff_id.to_string());
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
}

#[test]
fn we_read_what_skopeo_writes() {
    if !has("skopeo") {
        return;
    }
    let (scratch, image) = (Scratch::new(), fixture());
    image.write_layout(&scratch.at("origin"), "tag");
    let origin = scratch.location("oci", "origin:tag");
    for (transport, name, suffix) in
        [("oci", "layout", ":tag"), ("oci-archive", "layout.tar", ":tag"), ("dir", "folder", "")]
    {
        let location = scratch.location(transport, name) + suffix;
        skopeo(&["copy", &origin, &location]);
        assert_eq!(
            read_all(&*source(&location, scratch.path())),
            (image.manifest().digest, image.id()),
            "{location}"
        );
    }
    let location = scratch.location("docker-archive", "docker.tar:host.example/app:1");
    skopeo(&["copy", &origin, &location]);
    let opened = source(&location, scratch.path());
    assert_eq!(opened.name().unwrap().to_string(), "host.example/app:1");
    assert_eq!(read_all(&*opened).1, image.id(), "the image ID survives an archive without manifest");
    let detected = transport::open(&scratch.at("docker.tar"), &scratch.content()).unwrap();
    assert_eq!(detected.roots(), opened.roots());
}

#[test]
fn umoci_shares_a_layout_with_us() {
    if !has("umoci") {
        return;
    }
    let (scratch, image) = (Scratch::new(), fixture());
    let layout = scratch.at("layout");
    run(Command::new("umoci").args(["init", "--layout"]).arg(&layout));
    run(Command::new("umoci").arg("new").arg("--image").arg(format!("{}:theirs", layout.display())));
    write(&image, &scratch.location("oci", "layout:ours"), &[]);
    let listed = run(Command::new("umoci").args(["ls", "--layout"]).arg(&layout));
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["theirs", "ours"]);
    let bundle = scratch.at("bundle");
    let ours = format!("{}:ours", layout.display());
    run(Command::new("umoci").args(["unpack", "--image", &ours]).arg(&bundle));
    assert_eq!(std::fs::read_to_string(bundle.join("rootfs/etc/motd")).unwrap(), "hello\n");
    assert!(!bundle.join("rootfs/etc/hosts").exists());
    std::fs::write(bundle.join("rootfs/etc/added"), "more").unwrap();
    let next = format!("{}:next", layout.display());
    run(Command::new("umoci").args(["repack", "--image", &next]).arg(&bundle));
    let opened = source(&scratch.location("oci", "layout:next"), scratch.path());
    let (digest, _) = read_all(&*opened);
    assert_ne!(digest, image.manifest().digest);
    let all = source(&scratch.location("oci", "layout"), scratch.path());
    assert_eq!(all.roots().len(), 3);
}

#[test]
fn podman_loads_and_saves_with_us() {
    if !has("podman") {
        return;
    }
    let (scratch, image) = (Scratch::new(), fixture());
    let podman = |arguments: &[&str]| {
        let mut command = Command::new("podman");
        command.arg("--root").arg(scratch.at("root")).arg("--runroot").arg(scratch.at("run"));
        run(command.args(["--storage-driver=vfs"]).args(arguments))
    };
    for (transport, name) in [("docker-archive", "ours.tar"), ("oci-archive", "ours.oci.tar")] {
        write(&image, &scratch.location(transport, name), &["host.example/app:1"]);
        let file = scratch.at(name);
        podman(&["load", "--input", &file.display().to_string()]);
        let id = podman(&["image", "inspect", "--format", "{{.Id}}", "host.example/app:1"]);
        assert_eq!(id.trim(), image.id().hex(), "{name}");
        for format in ["docker-archive", "oci-archive"] {
            let saved = scratch.at(&format!("{name}.{format}"));
            let output = saved.display().to_string();
            podman(&["save", "--format", format, "--output", &output, "host.example/app:1"]);
            let opened =
                transport::open_file(File::open(&saved).unwrap(), &saved, &scratch.content()).unwrap();
            assert_eq!(opened.name().unwrap().to_string(), "host.example/app:1", "{format}");
            assert_eq!(read_all(&*opened).1, image.id(), "{format}");
        }
        podman(&["rmi", "host.example/app:1"]);
    }
}
