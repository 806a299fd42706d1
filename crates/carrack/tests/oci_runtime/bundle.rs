//! A bundle in a temporary folder, and the runtime with a folder of its own; all that a test left is deleted with it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use carrack_testkit::Run;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{CARRACK, LIMIT};

/// One bundle and its runtime.
pub struct Bundle {
    folder: TempDir,
}

/// Programs of busybox that scripts of the tests use.
const PROGRAMS: [&str; 14] = [
    "sh", "cat", "echo", "sleep", "true", "id", "ls", "pwd", "env", "readlink", "stty", "test", "touch", "wc",
];

impl Bundle {
    /// With `carrack runtime spec` as its config, running `script` without a terminal.
    pub fn new(script: &str) -> Self {
        let bundle = Self::empty();
        Run::of(Command::new(CARRACK).args(["runtime", "spec", "--bundle"]).arg(bundle.path()), LIMIT)
            .success();
        bundle.edit(|config| {
            config["process"]["terminal"] = json!(false);
            config["process"]["args"] = json!(["sh", "-c", script]);
        });
        bundle
    }

    /// With a root filesystem of busybox, and no config.
    pub fn empty() -> Self {
        let bundle = Self { folder: tempfile::tempdir().unwrap() };
        let programs = bundle.rootfs().join("bin");
        fs::create_dir_all(&programs).unwrap();
        fs::copy("/bin/busybox", programs.join("busybox")).unwrap();
        for name in PROGRAMS {
            symlink("busybox", programs.join(name)).unwrap();
        }
        bundle
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// An id that no other test has: cgroups are named by it.
    pub fn id(&self) -> String {
        self.path().file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned()
    }

    /// Changes config.json.
    pub fn edit(&self, change: impl FnOnce(&mut Value)) {
        let path = self.path().join("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, serde_json::to_vec(&config).unwrap()).unwrap();
    }

    /// `carrack runtime --root FOLDER`, in the bundle.
    pub fn command(&self) -> Command {
        let mut command = Command::new(CARRACK);
        command.arg("runtime").arg("--root").arg(self.path().join("state")).current_dir(self.path());
        command
    }

    /// Runs `carrack runtime ARGUMENTS`, where `ID` stands for the container's id.
    #[track_caller]
    pub fn runtime(&self, arguments: &[&str]) -> Run {
        let id = self.id();
        let arguments = arguments.iter().map(|argument| if *argument == "ID" { &id } else { *argument });
        Run::of(self.command().args(arguments), LIMIT)
    }

    /// Creates the container. Its output goes nowhere: it would keep the pipes of the test open.
    #[track_caller]
    pub fn create(&self, flags: &[&str]) -> Run {
        let script = "exec \"$@\" </dev/null >out 2>err";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", CARRACK, "runtime", "--root"]).arg(self.path().join("state"));
        command.arg("create").args(flags).arg(self.id()).current_dir(self.path());
        let mut run = Run::of(&mut command, LIMIT);
        run.stderr.push_str(&fs::read_to_string(self.path().join("err")).unwrap_or_default());
        run
    }

    /// What the created container's program printed.
    pub fn output(&self) -> String {
        fs::read_to_string(self.path().join("out")).unwrap_or_default()
    }

    #[track_caller]
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.runtime(&["state", "ID"]).success().stdout).unwrap()
    }

    /// Waits until the container has `status`.
    #[track_caller]
    pub fn until(&self, status: &str) {
        let deadline = Instant::now() + LIMIT;
        while self.state()["status"] != status {
            assert!(Instant::now() < deadline, "the container is not {status}: {}", self.state());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Whether anything of the container is left.
    pub fn is_gone(&self) -> bool {
        let cgroups = ["unified/", "memory/", "pids/", "freezer/", "devices/", ""]
            .map(|hierarchy| format!("/sys/fs/cgroup/{hierarchy}carrack-runtime/{}", self.id()));
        !self.path().join("state").join(self.id()).exists()
            && cgroups.iter().all(|folder| !Path::new(folder).exists())
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let id = self.id();
        let _ = self.command().args(["delete", "--force", &id]).output();
    }
}
