//! A registry of its own for each test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(10);

/// `carrack registry serve` on a free loopback port; stopped and removed when it is dropped.
pub struct Registry {
    child: Child,
    address: String,
    folder: TempDir,
}

impl Registry {
    /// Starts a registry without authentication.
    #[track_caller]
    pub fn start(program: impl AsRef<Path>) -> Self {
        Self::start_with(program, &[])
    }

    /// Starts a registry with further arguments, such as `--htpasswd FILE`.
    #[track_caller]
    pub fn start_with(program: impl AsRef<Path>, arguments: &[&str]) -> Self {
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix("carrack-test-").tempdir().expect("a temporary folder can be made");
        let mut command = Command::new(program.as_ref());
        command.arg("--root").arg(folder.path().join("root")).arg("--runroot").arg(folder.path().join("run"));
        command.args(["registry", "serve", "--listen", "127.0.0.1:0"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the registry can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (sender, receiver) = channel();
        // The thread reads to the end, so that the registry never waits for a reader of its output.
        thread::spawn(move || {
            while let Some(Ok(line)) = lines.next() {
                let _ = sender.send(line);
            }
        });
        let mut registry = Self { child, address: String::new(), folder };
        let line = receiver.recv_timeout(START_LIMIT).expect("the registry says where it listens");
        let address = line.strip_prefix("listening on ").expect("the registry says where it listens");
        registry.address = address.trim().to_owned();
        registry
    }

    /// `127.0.0.1:PORT`, the first part of a reference.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where the registry keeps its files.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
