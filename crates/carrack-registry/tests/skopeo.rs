//! A peer's client against our server: skopeo copies images to and from it, with equal digests.

mod support;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use carrack_oci::{Descriptor, DiffId, Digest, ImageConfig, Index, Manifest, Platform, media_type};
use support::Server;

/// An OCI layout with one image of two gzip layers; returns the manifest's digest.
fn write_layout(folder: &Path) -> Digest {
    let put = |kind: &str, bytes: &[u8]| {
        let descriptor = Descriptor::of(kind, bytes);
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(descriptor.digest.hex()), bytes).unwrap();
        descriptor
    };
    let mut config = ImageConfig::empty(&Platform::host());
    let mut layers = Vec::new();
    for size in [2_000, 3_000_000u32] {
        let tar: Vec<u8> = (0..size).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        config.rootfs.diff_ids.push(DiffId(Digest::of(&tar)));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).unwrap();
        layers.push(put(media_type::OCI_LAYER_GZIP, &gzip.finish().unwrap()));
    }
    let config = put(media_type::OCI_CONFIG, &serde_json::to_vec(&config).unwrap());
    let manifest = serde_json::to_vec(&Manifest::oci(config, layers)).unwrap();
    let manifest = put(media_type::OCI_MANIFEST, &manifest);
    let index = serde_json::to_vec(&Index::oci(vec![manifest.clone()])).unwrap();
    std::fs::write(folder.join("index.json"), index).unwrap();
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    manifest.digest
}

#[track_caller]
fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("/usr/bin/skopeo").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Copies in, to another repository, and out again; `credentials` is `user:password` or nothing.
fn round_trip(server: &Server, credentials: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.json");
    std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let (layout, out) = (folder.path().join("layout"), folder.path().join("out"));
    let digest = write_layout(&layout);
    let copy = |source: &str, target: &str| {
        let mut arguments = vec!["--policy", policy.to_str().unwrap(), "copy"];
        let login = ["src", "dest"].map(|side| format!("--{side}-creds={}", credentials.unwrap_or_default()));
        for (address, flag, login) in
            [(source, "--src-tls-verify=false", &login[0]), (target, "--dest-tls-verify=false", &login[1])]
        {
            if address.starts_with("docker:") {
                arguments.push(flag);
                arguments.extend(credentials.map(|_| login.as_str()));
            }
        }
        arguments.extend([source, target]);
        skopeo(&arguments);
    };
    let [one, two] = ["a/one:v1", "two"].map(|name| format!("docker://{}/{name}", server.address));
    copy(&format!("oci:{}", layout.display()), &one);
    copy(&one, &two);
    copy(&two, &format!("dir:{}", out.display()));
    let manifest = std::fs::read(out.join("manifest.json")).unwrap();
    assert_eq!(Digest::of(&manifest), digest, "the manifest came back byte for byte");
    let parsed: Manifest = serde_json::from_slice(&manifest).unwrap();
    for descriptor in parsed.layers.iter().chain([&parsed.config]) {
        assert_eq!(Digest::of(&std::fs::read(out.join(descriptor.digest.hex())).unwrap()), descriptor.digest);
    }
}

#[test]
fn round_trip_without_password() {
    let server = Server::start();
    round_trip(&server, None);
    let address = format!("docker://{}/a/one", server.address);
    let tags = skopeo(&["list-tags", "--tls-verify=false", &address]);
    assert!(tags.contains("\"v1\""), "{tags}");
    skopeo(&["delete", "--tls-verify=false", &format!("{address}:v1")]);
    assert_eq!(server.get("/v2/a/one/manifests/v1").status(), 404);
}

#[test]
fn round_trip_with_password() {
    let server = Server::with(|options, folder| {
        let path = folder.join("htpasswd");
        let made = Command::new("/usr/bin/htpasswd")
            .args(["-cbB", path.to_str().unwrap(), "alice", "wonder"])
            .output();
        assert!(made.unwrap().status.success());
        options.htpasswd = Some(path);
    });
    round_trip(&server, Some("alice:wonder"));
    let address = format!("docker://{}/a/one:v1", server.address);
    let refused = Command::new("/usr/bin/skopeo")
        .args(["inspect", "--tls-verify=false", "--creds=alice:wrong", &address])
        .output()
        .unwrap();
    assert!(!refused.status.success());
}
