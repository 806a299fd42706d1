//! containerd drives `carrack runtime` by its runc shim: Debian's, and another where a folder of peers is given.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use carrack_testkit::{ImageFixture, Run};
use serde_json::Value;
use tempfile::TempDir;

use crate::{CARRACK, LIMIT};

const IMAGE: &str = "localhost/busybox:1";
const PATHS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A containerd with root, state and address of its own, and a namespace that no other test has.
struct Daemon {
    folder: TempDir,
    process: Child,
    /// Where its programs are looked for.
    path: String,
}

impl Daemon {
    /// Starts containerd, of the folder in CARRACK_CONTAINERD_BIN if there is one, and gives it an image.
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("carrackd").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink(CARRACK, at("carrack-runtime")).unwrap();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n",
            at("root"),
            at("state"),
            at("sock"),
        );
        fs::write(at("config.toml"), config).unwrap();
        #[allow(
            clippy::disallowed_methods,
            reason = "which containerd is tested is for who starts the test to say"
        )]
        let other = std::env::var("CARRACK_CONTAINERD_BIN");
        let path = match other {
            Ok(first) => format!("{first}:{PATHS}"),
            Err(_) => PATHS.to_owned(),
        };
        let log = fs::File::create(at("log")).unwrap();
        let mut command = Command::new("containerd");
        command.env("PATH", &path).arg("--config").arg(at("config.toml"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = command.spawn().expect("containerd is installed by scripts/setup.sh test");
        let daemon = Self { folder, process, path };
        daemon.until("containerd answers", |daemon| daemon.ctr(&["version"]).code == 0);
        daemon.import();
        daemon
    }

    fn import(&self) {
        let layout = self.at("layout");
        ImageFixture::busybox(Path::new("/bin/busybox")).write_layout(&layout, "1");
        let archive = self.at("image.tar");
        let mut tar = Command::new("tar");
        Run::of(tar.arg("-cf").arg(&archive).arg("-C").arg(&layout).arg("."), LIMIT).success();
        let archive = archive.to_str().unwrap();
        self.ctr(&["image", "import", "--base-name", "localhost/busybox", archive]).success();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A namespace of containerd, and part of the path of its containers' cgroups.
    fn namespace(&self) -> &str {
        self.folder.path().file_name().unwrap().to_str().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.env("PATH", &self.path).arg("--address").arg(self.at("sock"));
        command.args(["--namespace", self.namespace()]).args(arguments);
        command
    }

    #[track_caller]
    fn ctr(&self, arguments: &[&str]) -> Run {
        Run::of(&mut self.command(arguments), LIMIT)
    }

    #[track_caller]
    fn run(&self, flags: &[&str], name: &str, command: &[&str]) -> Run {
        let runtime = self.at("carrack-runtime");
        let own = ["run", "--runtime", "io.containerd.runc.v2", "--runc-binary"];
        let own = [&own[..], &[runtime.to_str().unwrap()]].concat();
        self.ctr(&[&own, flags, &[IMAGE, name], command].concat())
    }

    #[track_caller]
    fn until(&self, what: &str, mut fact: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !fact(self) {
            let log = fs::read_to_string(self.at("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "did not come true: {what}\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn status(&self, task: &str) -> String {
        let list = self.ctr(&["task", "list"]).success().stdout;
        let row = list.lines().find(|line| line.starts_with(task)).unwrap_or_default();
        row.split_whitespace().nth(2).unwrap_or_default().to_owned()
    }

    /// The numbers of `ctr task metrics`, as the shim reads them of the cgroup.
    fn metrics(&self, task: &str) -> Value {
        let run = self.ctr(&["task", "metrics", "--format", "json", task]).success();
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
    }

    /// Folders of containerd's cgroups in all hierarchies.
    fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let all = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
        all.map(|folder| folder.join(self.namespace())).filter(|folder| folder.exists()).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let tasks = self.command(&["task", "list", "--quiet"]).output();
        let tasks =
            tasks.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        for task in tasks.lines() {
            let _ = self.command(&["task", "delete", "--force", task]).output();
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        for folder in self.cgroups() {
            for below in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(below.path());
            }
            let _ = fs::remove_dir(folder);
        }
        let _ = fs::remove_dir_all(Path::new("/run/containerd/runc").join(self.namespace()));
    }
}

#[test]
fn ctr_takes_a_container_through_its_life() {
    let daemon = Daemon::new();
    let events = fs::File::create(daemon.at("events")).unwrap();
    let mut watcher = daemon.command(&["events"]).stdout(events).spawn().unwrap();
    assert_eq!(daemon.run(&["--rm"], "first", &["echo", "ahoy"]).line(), "ahoy");
    daemon.run(&["--rm"], "code", &["sh", "-c", "exit 9"]).code(9);
    let absent = daemon.run(&["--rm"], "absent", &["no-such-program"]).code(1);
    assert!(absent.stderr.contains("no-such-program"), "{}", absent.stderr);

    let script = "trap 'exit 7' TERM; while :; do sleep 0.1; done";
    daemon.run(&["--detach"], "one", &["sh", "-c", script]).success();
    assert_eq!(daemon.status("one"), "RUNNING");
    let exec = |id: &str, command: &[&str]| {
        daemon.ctr(&[&["task", "exec", "--exec-id", id, "one"], command].concat())
    };
    assert_eq!(exec("e1", &["cat", "/proc/1/comm"]).line(), "sh");
    exec("e2", &["sh", "-c", "exit 5"]).code(5);
    assert!(exec("e3", &["no-such-program"]).code(1).stderr.contains("no-such-program"));
    assert!(daemon.ctr(&["task", "ps", "one"]).success().stdout.lines().count() > 1);
    let metrics = daemon.metrics("one");
    let number = |paths: [&str; 2]| paths.iter().find_map(|path| metrics.pointer(path)?.as_u64());
    let memory = number(["/memory/usage/usage", "/memory/usage"]).unwrap();
    assert!((1..64 << 20).contains(&memory), "{memory} bytes are not one shell's: {metrics}");
    let nanoseconds = number(["/cpu/usage/total", "/cpu/usage_usec"]).unwrap();
    assert!((1..60_000_000_000).contains(&nanoseconds), "{nanoseconds} ns are not one shell's: {metrics}");

    daemon.ctr(&["task", "pause", "one"]).success();
    assert_eq!(daemon.status("one"), "PAUSED");
    daemon.ctr(&["task", "resume", "one"]).success();
    assert_eq!(daemon.status("one"), "RUNNING");
    daemon.ctr(&["task", "kill", "--signal", "SIGTERM", "one"]).success();
    daemon.until("it has ended", |daemon| daemon.status("one") == "STOPPED");
    let deleted = daemon.ctr(&["task", "delete", "one"]).success();
    assert!(deleted.stderr.contains("non-zero exit code 7"), "{}", deleted.stderr);
    daemon.ctr(&["container", "delete", "one"]).success();

    daemon.run(&["--detach"], "two", &["sleep", "1000"]).success();
    daemon.ctr(&["task", "delete", "--force", "two"]);
    assert_eq!(daemon.ctr(&["task", "list", "--quiet"]).line(), "");
    for folder in daemon.cgroups() {
        assert!(!folder.join("one").exists() && !folder.join("two").exists(), "{}", folder.display());
    }
    let topics = ["create", "start", "exec-added", "exec-started", "paused", "resumed", "exit", "delete"];
    daemon.until("the events have come", |daemon| {
        let seen = fs::read_to_string(daemon.at("events")).unwrap();
        topics.iter().all(|topic| seen.contains(&format!("/tasks/{topic} ")))
    });
    watcher.kill().unwrap();
    watcher.wait().unwrap();
}

#[test]
fn ctr_is_told_of_want_of_memory() {
    let daemon = Daemon::new();
    let events = fs::File::create(daemon.at("events")).unwrap();
    let mut watcher = daemon.command(&["events"]).stdout(events).spawn().unwrap();
    let script = "sleep 0.5; tail /dev/zero";
    daemon.run(&["--rm", "--memory-limit", "16777216"], "hungry", &["sh", "-c", script]).code(137);
    daemon.until("the event has come", |daemon| {
        fs::read_to_string(daemon.at("events")).unwrap().contains("/tasks/oom ")
    });
    watcher.kill().unwrap();
    watcher.wait().unwrap();
}

#[test]
fn ctr_gives_a_container_a_terminal() {
    let daemon = Daemon::new();
    let runtime = daemon.at("carrack-runtime");
    let line = format!(
        "ctr --address {} --namespace {} run --rm --tty --runtime io.containerd.runc.v2 \
         --runc-binary {} {IMAGE} term sh -c 'test -t 0 && echo terminal; exit 4'",
        daemon.at("sock").display(),
        daemon.namespace(),
        runtime.display(),
    );
    let mut script = Command::new("script");
    script.env("PATH", &daemon.path).args(["-qec", &line, "/dev/null"]);
    let run = Run::of(&mut script, LIMIT).code(4);
    assert!(run.stdout.contains("terminal"), "{}", run.stdout);
}
