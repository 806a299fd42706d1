//! A store of its own for each test, and the program that works on it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::{ImageFixture, Run, sweep};

const LIMIT: Duration = Duration::from_secs(60);
const CLEANUP_LIMIT: Duration = Duration::from_secs(20);

/// An empty store in a temporary folder. Dropped, also by a panic, it takes containers, processes, mounts and
/// cgroups of its own along.
pub struct Store {
    folder: TempDir,
    program: PathBuf,
}

impl Store {
    /// A new store that is worked on by `program`: `env!("CARGO_BIN_EXE_carrack")` of the calling test.
    pub fn new(program: impl AsRef<Path>) -> Self {
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix("carrack-test-").tempdir().expect("a temporary folder can be made");
        fs::create_dir(folder.path().join("home")).expect("a folder can be made");
        fs::write(folder.path().join("registries.conf"), "").expect("a file can be written");
        Self { folder, program: program.as_ref().to_owned() }
    }

    /// The temporary folder; tests may put files beside `root`, `run` and `home`.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the registries.conf that holds for this store, in place of the machine's.
    pub fn configure_registries(&self, text: &str) {
        fs::write(self.path().join("registries.conf"), text).expect("a file can be written");
    }

    /// The value of `--root`.
    pub fn root(&self) -> PathBuf {
        self.path().join("root")
    }

    /// The value of `--runroot`.
    pub fn runroot(&self) -> PathBuf {
        self.path().join("run")
    }

    /// The program with its store chosen, for tests that add to it or spawn it themselves. No settings of the user
    /// who runs the test reach it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.root()).arg("--runroot").arg(self.runroot());
        command.env("HOME", self.path().join("home"));
        command.env("CONTAINERS_REGISTRIES_CONF", self.path().join("registries.conf"));
        for name in
            ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"]
        {
            command.env_remove(name);
        }
        command
    }

    /// Runs `carrack ARGUMENTS` to its end, which it must reach within a minute.
    #[track_caller]
    pub fn carrack<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Run {
        Run::of(self.command().args(arguments), LIMIT)
    }

    /// Puts an image into the store by `carrack pull oci:...` under `name`.
    #[track_caller]
    pub fn load(&self, image: &ImageFixture, name: &str) {
        let layout = tempfile::tempdir_in(self.path()).expect("a temporary folder can be made");
        image.write_layout(layout.path(), "fixture");
        let location = format!("oci:{}:fixture", layout.path().display());
        self.carrack(["pull", "--quiet", &location]).success();
        self.carrack(["tag", image.id().as_str(), name]).success();
    }

    /// The IDs of the containers that the store has records of.
    pub fn container_ids(&self) -> Vec<String> {
        let folders = [self.root(), self.runroot()].map(|place| fs::read_dir(place.join("containers")));
        let entries = folders.into_iter().flatten().flatten().flatten();
        let recorded = entries.filter(|entry| entry.path().join("container.json").exists());
        let names = recorded.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())).collect()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let containers = self.container_ids();
        if !containers.is_empty() {
            sweep::run_quietly(self.command().args(["rm", "--force", "--all"]), CLEANUP_LIMIT);
        }
        let steps = fs::read_dir(self.runroot().join("steps")).into_iter().flatten().flatten();
        let steps = steps.filter_map(|entry| entry.file_name().into_string().ok());
        let containers: Vec<_> = containers.into_iter().chain(steps).collect();
        sweep::kill_processes(self.path(), &containers);
        sweep::unmount_below(self.path());
        sweep::remove_cgroups(&containers);
    }
}
