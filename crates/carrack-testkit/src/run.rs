//! Running a program with a time limit and its output captured.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use std::os::unix::process::ExitStatusExt;

const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// What a program did.
#[derive(Clone, Debug)]
pub struct Run {
    /// The exit code; 128 + n after signal n.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    command: String,
}

impl Run {
    /// Runs `command` to its end. Panics when it, or a process that holds its output, takes longer than `limit`:
    /// that is how a detached process that keeps its parent's pipe is found.
    #[track_caller]
    pub fn of(command: &mut Command, limit: Duration) -> Self {
        let deadline = Instant::now() + limit;
        let text = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {text}: {error}"));
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        let status = wait(&mut child, deadline).unwrap_or_else(|| panic!("{text}: no end after {limit:?}"));
        let rest = |pipe: Receiver<Vec<u8>>, name| {
            let left = deadline.saturating_duration_since(Instant::now());
            let bytes =
                pipe.recv_timeout(left).unwrap_or_else(|_| panic!("{text}: its {name} is still held open"));
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Self {
            code,
            stdout: rest(stdout, "standard output"),
            stderr: rest(stderr, "standard error"),
            command: text,
        }
    }

    /// Panics with the output unless the program ended with 0.
    #[track_caller]
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// Panics with the output unless the program ended with `expected`.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        assert!(
            self.code == expected,
            "{}\nexpected exit code {expected}, got {}\nstdout: {}\nstderr: {}",
            self.command,
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Standard output without the blanks around it, after success.
    #[track_caller]
    pub fn line(self) -> String {
        self.success().stdout.trim().to_owned()
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// Waits for the child; kills it at the deadline and returns `None`.
pub(crate) fn wait(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        thread::sleep(POLL_INTERVAL);
    }
}
