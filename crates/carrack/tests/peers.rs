//! Peers from Debian packages read what carrack writes, and the reverse: podman, buildah, skopeo, umoci and
//! docker-registry, with equal digests.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use carrack_testkit::{ImageFixture, Registry, Run, Store};

const CARRACK: &str = env!("CARGO_BIN_EXE_carrack");
/// The longest that any one program may take; only a broken test comes near it.
const LIMIT: Duration = Duration::from_secs(120);
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];

/// Debian's docker-registry, on a free port, with its data in a folder.
struct DebianRegistry {
    child: Child,
    address: String,
}

impl DebianRegistry {
    fn start(folder: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = folder.join("docker-registry.yml");
        let data = folder.join("docker-registry");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            data.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        let command = command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self { child: command.spawn().expect("docker-registry is installed"), address };
        let started = Instant::now();
        while TcpStream::connect(&registry.address).is_err() {
            assert!(started.elapsed() < LIMIT, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn host(program: &str, arguments: &[&str]) -> Run {
    Run::of(Command::new(program).args(arguments), LIMIT)
}

/// A tool of the containers family with storage of its own below the store's folder, whose guard unmounts it.
fn tool(store: &Store, program: &str, arguments: &[&str]) -> Run {
    let folder = |name: &str| store.path().join(format!("{program}-{name}"));
    let mut command = Command::new(program);
    command.arg("--root").arg(folder("root")).arg("--runroot").arg(folder("run"));
    command.args(["--storage-driver", "overlay"]).env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1");
    if program == "podman" {
        // crun 1.8 refuses hosts that have both cgroup versions.
        command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", "runc"]);
    }
    Run::of(command.args(arguments), LIMIT)
}

/// A store with `localhost/app:1`, built by carrack on a busybox image.
fn store_with_build() -> Store {
    let store = Store::new(CARRACK);
    store.load(&ImageFixture::busybox(Path::new("/bin/busybox")), "localhost/busybox:1");
    let context = store.path().join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("greeting"), "ahoy\n").unwrap();
    let dockerfile = "FROM localhost/busybox:1\nCOPY greeting /srv/\nRUN chgrp -R 0 /srv && chmod -R g=u /srv\nENV A=1\n\
                      USER 1001\nCMD cat /srv/greeting\n";
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    store.carrack(["build", "-q", "-t", "localhost/app:1", context.to_str().unwrap()]).success();
    store
}

#[test]
fn podman_pulls_and_runs_what_carrack_built_and_served() {
    let (store, registry) = (store_with_build(), Registry::start(CARRACK));
    let name = format!("{}/team/app:1", registry.address());
    let digest = store.carrack(["push", "--quiet", "localhost/app:1", &name]).line();
    let id = store.carrack(["inspect", "--format", "{{.Id}}", "localhost/app:1"]).line();
    let pulled = tool(&store, "podman", &["pull", "--quiet", "--tls-verify=false", &name]).line();
    assert_eq!(format!("sha256:{pulled}"), id);
    let inspected = tool(&store, "podman", &["inspect", "--type", "image", "--format", "{{.Digest}}", &name]);
    assert_eq!(inspected.line(), digest);
    let run = tool(&store, "podman", &[&["run", "--rm", "--network=none"], &LIMITS[..], &[&name]].concat());
    assert_eq!(run.line(), "ahoy");
}

#[test]
fn carrack_pulls_and_runs_what_buildah_built_and_debian_serves() {
    let store = Store::new(CARRACK);
    let registry = DebianRegistry::start(store.path());
    let context = store.path().join("context");
    fs::create_dir(&context).unwrap();
    fs::copy("/bin/busybox", context.join("busybox")).unwrap();
    let dockerfile =
        "FROM scratch\nCOPY busybox /bin/sh\nRUN echo ahoy > /greeting\nCMD read x < /greeting; echo $x\n";
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let build = ["build", "--quiet", "--isolation=chroot", "--tag", "localhost/app"];
    tool(&store, "buildah", &[&build[..], &LIMITS[..], &[context.to_str().unwrap()]].concat()).success();
    let name = format!("{}/app:1", registry.address);
    let digest_file = store.path().join("digest");
    let push = ["push", "--quiet", "--tls-verify=false", "--digestfile", digest_file.to_str().unwrap()];
    tool(&store, "buildah", &[&push[..], &["localhost/app", &format!("docker://{name}")]].concat()).success();
    store.carrack(["pull", &name]).success();
    let digest = store.carrack(["inspect", "--format", "{{.Descriptor.digest}}", &name]).line();
    assert_eq!(digest, fs::read_to_string(digest_file).unwrap());
    assert_eq!(store.carrack(["run", "--rm", "--network", "none", &name]).line(), "ahoy");
}

#[test]
fn skopeo_copies_both_ways() {
    let (store, ours) = (store_with_build(), Registry::start(CARRACK));
    let theirs = DebianRegistry::start(store.path());
    let digest =
        store.carrack(["push", "-q", "localhost/app:1", &format!("{}/app:1", ours.address())]).line();
    let copy = |from: &str, to: &str| {
        let (from, to) = (format!("docker://{from}/app:1"), format!("docker://{to}/app:1"));
        let flags = ["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"];
        host("skopeo", &[&flags[..], &[&from, &to]].concat()).success();
    };
    copy(ours.address(), &theirs.address);
    let again = Registry::start(CARRACK);
    copy(&theirs.address, again.address());
    let name = format!("docker://{}/app:1", again.address());
    let seen = host("skopeo", &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &name]).line();
    assert_eq!(seen, digest);
    let there = Store::new(CARRACK);
    let name = format!("{}/app:1", again.address());
    assert_eq!(there.carrack(["run", "--rm", "--network", "none", &name]).line(), "ahoy");
}

#[test]
fn umoci_reads_and_changes_a_layout() {
    let store = store_with_build();
    let layout = store.path().join("layout");
    let name = |tag: &str| format!("{}:{tag}", layout.display());
    store.carrack(["push", "localhost/app:1", &format!("oci:{}", name("1"))]).success();
    let listed = host("umoci", &["list", "--layout", layout.to_str().unwrap()]);
    assert_eq!(listed.line(), "1");
    let bundle = store.path().join("bundle");
    host("umoci", &["unpack", "--image", &name("1"), bundle.to_str().unwrap()]).success();
    assert_eq!(fs::read_to_string(bundle.join("rootfs/srv/greeting")).unwrap(), "ahoy\n");
    let change = [
        "--config.cmd",
        "/bin/sh",
        "--config.cmd",
        "-c",
        "--config.cmd",
        "echo $B",
        "--config.env",
        "B=changed",
    ];
    host("umoci", &[&["config", "--image", &name("1"), "--tag", "2"], &change[..]].concat()).success();
    let id = store.carrack(["pull", "--quiet", &format!("oci:{}", name("2"))]).line();
    assert_eq!(store.carrack(["run", "--rm", "--network", "none", &id]).line(), "changed");
}

#[test]
fn podman_loads_and_saves_archives() {
    let store = store_with_build();
    let id = store.carrack(["inspect", "--format", "{{.Id}}", "localhost/app:1"]).line();
    let archive = store.path().join("ours.tar");
    let archive = archive.to_str().unwrap();
    store
        .carrack(["push", "localhost/app:1", &format!("docker-archive:{archive}:localhost/app:1")])
        .success();
    tool(&store, "podman", &["load", "--quiet", "--input", archive]).success();
    let loaded =
        tool(&store, "podman", &["inspect", "--type", "image", "--format", "{{.Id}}", "localhost/app:1"]);
    assert_eq!(format!("sha256:{}", loaded.line()), id);
    for format in ["docker-archive", "oci-archive"] {
        let saved = store.path().join(format);
        let saved = saved.to_str().unwrap();
        tool(
            &store,
            "podman",
            &["save", "--quiet", "--format", format, "--output", saved, "localhost/app:1"],
        )
        .success();
        let there = Store::new(CARRACK);
        assert_eq!(there.carrack(["pull", "--quiet", &format!("{format}:{saved}")]).line(), id);
        assert_eq!(there.carrack(["run", "--rm", "--network", "none", &id]).line(), "ahoy");
    }
}

#[test]
fn peers_read_zstd_layers_and_an_index_that_carrack_copied() {
    let (store, ours) = (store_with_build(), Registry::start(CARRACK));
    let theirs = DebianRegistry::start(store.path());
    let name = format!("{}/zstd:1", theirs.address);
    let digest = store.carrack(["push", "-q", "--compression", "zstd:7", "localhost/app:1", &name]).line();
    let raw = host("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    let manifest: serde_json::Value = serde_json::from_str(&raw.line()).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    }
    tool(&store, "podman", &["pull", "--quiet", "--tls-verify=false", &name]).success();
    let run = tool(&store, "podman", &[&["run", "--rm", "--network=none"], &LIMITS[..], &[&name]].concat());
    assert_eq!(run.line(), "ahoy");
    // An index of this platform and another one, made by skopeo's own format from the image.
    let copied = format!("{}/zstd:2", ours.address());
    assert_eq!(store.carrack(["copy", "-q", &name, &copied]).line(), digest);
    let layout = store.path().join("index");
    let entry = |architecture: &str| {
        let image = ImageFixture::new()
            .layer("/a \"a\"")
            .configure(|config| config.architecture = architecture.into());
        let entry = serde_json::to_value(image.write_layout(&layout, "x")).unwrap();
        let platform = serde_json::json!({"os": "linux", "architecture": architecture});
        serde_json::json!({"mediaType": entry["mediaType"], "digest": entry["digest"], "size": entry["size"], "platform": platform})
    };
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": [entry("amd64"), entry("arm64")]});
    let bytes = serde_json::to_vec(&index).unwrap();
    let digest = carrack_oci::Digest::of(&bytes);
    fs::write(layout.join("blobs/sha256").join(digest.hex()), &bytes).unwrap();
    let root = serde_json::json!({"mediaType": kind, "digest": digest.to_string(), "size": bytes.len(),
        "annotations": {"org.opencontainers.image.ref.name": "multi"}});
    let root = serde_json::json!({"schemaVersion": 2, "manifests": [root]});
    fs::write(layout.join("index.json"), serde_json::to_vec(&root).unwrap()).unwrap();
    let (one, two) = (format!("{}/multi:1", theirs.address), format!("{}/multi:1", ours.address()));
    store.carrack(["copy", "--all", &format!("oci:{}:multi", layout.display()), &one]).success();
    store.carrack(["copy", "--all", &one, &two]).success();
    for name in [&one, &two] {
        let raw = host("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
        assert_eq!(raw.success().stdout.as_bytes(), bytes);
    }
    let target = format!("dir:{}", store.path().join("by-skopeo").display());
    let flags = ["copy", "--quiet", "--all", "--preserve-digests", "--src-tls-verify=false"];
    host("skopeo", &[&flags[..], &[&format!("docker://{two}"), &target]].concat()).success();
}

#[test]
fn peers_read_archives_of_several_images_and_the_reverse() {
    let store = store_with_build();
    let names = ["localhost/app:1", "localhost/busybox:1"];
    let ids =
        |store: &Store| names.map(|name| store.carrack(["inspect", "--format", "{{.Id}}", name]).line());
    let path = |name: &str| store.path().join(name).display().to_string();
    let ours = path("ours.tar");
    store.carrack(["save", "--output", &ours, names[0], names[1]]).success();
    tool(&store, "podman", &["load", "--quiet", "--input", &ours]).success();
    for (name, id) in names.iter().zip(ids(&store)) {
        let seen =
            tool(&store, "podman", &["inspect", "--type", "image", "--format", "{{.Id}}", name]).line();
        assert_eq!(format!("sha256:{seen}"), id);
        let copied = path(&name.replace(['/', ':'], "-"));
        let from = format!("docker-archive:{ours}:{name}");
        host("skopeo", &["copy", "--quiet", &from, &format!("dir:{copied}")]).success();
    }
    let theirs = path("theirs.tar");
    tool(&store, "podman", &["save", "--quiet", "-m", "--output", &theirs, names[0], names[1]]).success();
    let there = Store::new(CARRACK);
    let loaded = there.carrack(["load", "--quiet", "--input", &theirs]).success().stdout;
    let mut lines: Vec<&str> = loaded.lines().collect();
    lines.sort();
    assert_eq!(lines, names.map(|name| format!("Loaded image: {name}")));
    assert_eq!(ids(&there), ids(&store));
    assert_eq!(there.carrack(["run", "--rm", "--network", "none", names[0]]).line(), "ahoy");
}

#[test]
fn skopeo_umoci_and_buildah_read_what_is_saved() {
    let store = store_with_build();
    let path = |name: &str| store.path().join(name).display().to_string();
    let (archive, layout) = (path("app.oci.tar"), path("app.oci"));
    store.carrack(["save", "--format", "oci-archive", "-o", &archive, "localhost/app:1"]).success();
    store.carrack(["save", "--format", "oci-dir", "-o", &layout, "localhost/app:1"]).success();
    let config = host("skopeo", &["inspect", "--config", &format!("oci-archive:{archive}")]).line();
    assert!(config.contains("\"A=1\""), "{config}");
    assert_eq!(host("umoci", &["list", "--layout", &layout]).line(), "localhost/app:1");
    let from = format!("oci-archive:{archive}");
    let container = tool(&store, "buildah", &["from", "--quiet", &from]).line();
    let folder = tool(&store, "buildah", &["mount", &container]).line();
    assert_eq!(fs::read_to_string(Path::new(&folder).join("srv/greeting")).unwrap(), "ahoy\n");
    tool(&store, "buildah", &["umount", &container]).success();
}

#[test]
fn podman_runs_what_a_commit_in_dockers_format_pushed() {
    let (store, registry) = (store_with_build(), Registry::start(CARRACK));
    let run = ["run", "--detach", "--network", "none", "--user", "0", "localhost/app:1", "sh", "-c"];
    let container = store.carrack([&run[..], &["echo committed > /srv/greeting"]].concat()).line();
    store.carrack(["wait", &container]).success();
    let name = format!("{}/team/committed:1", registry.address());
    let change = "CMD [\"cat\", \"/srv/greeting\"]";
    let target = format!("docker://{name}");
    store.carrack(["commit", "-q", "-f", "docker", "-c", change, &container, &target]).success();
    tool(&store, "podman", &["pull", "--quiet", "--tls-verify=false", &name]).success();
    let run = tool(&store, "podman", &[&["run", "--rm", "--network=none"], &LIMITS[..], &[&name]].concat());
    assert_eq!(run.line(), "committed");
}
