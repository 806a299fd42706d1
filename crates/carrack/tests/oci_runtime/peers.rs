//! Programs of Debian that drive carrack as their runtime, and bundles that cross over: podman, buildah, crun, runc.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use carrack_testkit::{ImageFixture, Run, Store};
use serde_json::json;

use crate::bundle::Bundle;
use crate::{CARRACK, LIMIT};

/// The kernel refuses limits above those of a test's process.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];

/// Podman or buildah with a store of its own, and carrack as its runtime.
struct Peer {
    store: Store,
    runtime: PathBuf,
}

impl Peer {
    fn new() -> Self {
        let store = Store::new(CARRACK);
        let runtime = store.path().join("carrack-runtime");
        symlink(CARRACK, &runtime).unwrap();
        Self { store, runtime }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.store.path().join(name)
    }

    #[track_caller]
    fn podman(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.folder("root")).arg("--runroot").arg(self.folder("run"));
        command.args([
            "--storage-driver",
            "overlay",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "file",
        ]);
        command.arg("--tmpdir").arg(self.folder("tmp")).arg("--runtime").arg(&self.runtime);
        command.env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1").current_dir(self.store.path());
        Run::of(command.args(arguments), LIMIT)
    }

    #[track_caller]
    fn buildah(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.folder("root")).arg("--runroot").arg(self.folder("run"));
        Run::of(command.args(["--storage-driver", "overlay"]).args(arguments), LIMIT)
    }

    /// Gives the peer an image of busybox.
    fn load(&self) {
        ImageFixture::busybox(Path::new("/bin/busybox")).write_layout(&self.folder("layout"), "1");
        // Podman makes a name of the path, which must be in lower case, so it is a relative one.
        let id = self.podman(&["pull", "--quiet", "oci:layout:1"]).line();
        self.podman(&["tag", &id, "localhost/busybox:1"]).success();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let removed = ["rm", "--all", "--force", "--time", "0"];
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.folder("root")).arg("--runroot").arg(self.folder("run"));
        command.args([
            "--storage-driver",
            "overlay",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "file",
        ]);
        command.arg("--tmpdir").arg(self.folder("tmp")).arg("--runtime").arg(&self.runtime);
        let _ = command.args(removed).output();
    }
}

#[test]
fn podman_runs_containers_with_carrack() {
    let peer = Peer::new();
    peer.load();
    let run = |flags: &[&str], command: &[&str]| {
        let words =
            [&["run", "--network=none"], &LIMITS[..], flags, &["localhost/busybox:1"], command].concat();
        peer.podman(&words)
    };
    assert_eq!(run(&["--rm"], &["echo", "ahoy"]).line(), "ahoy");
    run(&["--rm"], &["sh", "-c", "exit 9"]).code(9);
    run(&["--rm"], &["no-such-program"]).code(127);
    assert_eq!(run(&["--rm", "-t"], &["sh", "-c", "test -t 1 && echo tty"]).line(), "tty");
    assert_eq!(run(&["--rm", "--pids-limit=50", "--user=12:34"], &["id", "-u"]).line(), "12");

    run(&["-d", "--name", "one"], &["sh", "-c", "trap 'exit 7' TERM; sleep 1000 & wait"]).success();
    assert_eq!(peer.podman(&["exec", "one", "echo", "inside"]).line(), "inside");
    peer.podman(&["exec", "one", "sh", "-c", "exit 5"]).code(5);
    peer.podman(&["exec", "one", "no-such-program"]).code(127);
    peer.podman(&["pause", "one"]).success();
    let status = |name: &str| peer.podman(&["inspect", "--format", "{{.State.Status}}", name]).line();
    assert_eq!(status("one"), "paused");
    peer.podman(&["unpause", "one"]).success();
    peer.podman(&["stop", "one"]).success();
    let code = peer.podman(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "one"]).line();
    assert_eq!(code, "exited 7");
    peer.podman(&["start", "one"]).success();
    assert_eq!(status("one"), "running");
    peer.podman(&["kill", "one"]).success();
    peer.podman(&["rm", "--force", "one"]).success();
    assert_eq!(peer.podman(&["ps", "--all", "--quiet"]).line(), "");
    let info = peer.podman(&["info", "--format", "{{.Host.OCIRuntime.Version}}"]).line();
    assert!(info.contains("carrack-runtime"), "{info}");
}

#[test]
fn buildah_builds_and_runs_with_carrack() {
    let peer = Peer::new();
    peer.load();
    let context = peer.folder("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM localhost/busybox:1\nRUN echo ahoy > /greeting\n")
        .unwrap();
    let runtime = peer.runtime.to_str().unwrap();
    let build = [
        "build",
        "--quiet",
        "--isolation=oci",
        "--runtime",
        runtime,
        "--network=none",
        "--tag",
        "localhost/app",
    ];
    peer.buildah(&[&build[..], &LIMITS[..], &[context.to_str().unwrap()]].concat()).success();
    let container = peer.buildah(&["from", "localhost/app"]).line();
    let run = ["run", "--isolation=oci", "--runtime", runtime, "--network=none", &container];
    assert_eq!(peer.buildah(&[&run[..], &["--", "cat", "/greeting"]].concat()).line(), "ahoy");
    peer.buildah(&["rm", &container]).success();
}

#[test]
fn a_bundle_of_runc_runs_in_carrack() {
    let bundle = Bundle::empty();
    Run::of(Command::new("runc").arg("spec").arg("--bundle").arg(bundle.path()), LIMIT).success();
    bundle.edit(|config| {
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", "echo ahoy $(id -u) $(cat /proc/1/comm)"]);
        limits(config);
    });
    assert_eq!(bundle.runtime(&["run", "ID"]).line(), "ahoy 0 sh");
}

#[test]
fn a_bundle_of_carrack_runs_in_runc_and_crun() {
    let bundle = Bundle::new("echo ahoy $(id -u)");
    bundle.edit(limits);
    let root = bundle.path().join("theirs");
    let mut runc = Command::new("runc");
    runc.arg("--root").arg(&root).args(["run", "--bundle"]).arg(bundle.path()).arg(bundle.id());
    assert_eq!(Run::of(&mut runc, LIMIT).line(), "ahoy 0");
    // crun 1.8 refuses hosts that have both cgroup versions, so it sees the second alone and is told to make none.
    bundle.edit(|config| {
        config["linux"]["resources"] = json!({});
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["type"] != "cgroup");
    });
    let hidden =
        "test ! -d /sys/fs/cgroup/unified || mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup; exec \"$@\"";
    let mut crun = Command::new("unshare");
    crun.args(["--mount", "sh", "-c", hidden, "sh", "crun", "--root"]).arg(&root);
    crun.args(["--cgroup-manager=disabled", "run", "--bundle"]).arg(bundle.path()).arg(bundle.id());
    assert_eq!(Run::of(&mut crun, LIMIT).line(), "ahoy 0");
}

/// A test's process may not raise the limits that a bundle of runc asks for.
fn limits(config: &mut serde_json::Value) {
    config["process"]["rlimits"] = json!([]);
}
