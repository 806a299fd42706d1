//! Calls of a runtime's commands, and what their failures mean.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use carrack_container::{Effect, OtherRuntime};
use carrack_sys::{IoContext, atomic, tree};
use serde::Deserialize;

use crate::{Error, Result};

/// What a runtime may say about a failure.
const MAX_LOG_BYTES: u64 = 64 << 10;
/// Runtimes look for helpers of their own.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One container as its runtime is asked about it.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    pub runtime: OtherRuntime,
    /// The container's id.
    pub id: String,
    /// The container's run folder.
    pub folder: PathBuf,
}

/// A line of a runtime's log.
#[derive(Deserialize)]
struct LogLine {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

impl Calls {
    /// Of the container `id` with the run folder `folder`.
    pub fn new(runtime: &OtherRuntime, id: &str, folder: &Path) -> Self {
        Self { runtime: runtime.clone(), id: id.to_owned(), folder: folder.to_owned() }
    }

    /// What is announced before the runtime is told of the container.
    pub fn effect(&self) -> Effect {
        Effect::Runtime { runtime: self.runtime.clone(), id: self.id.clone(), state: self.state() }
    }

    fn state(&self) -> PathBuf {
        self.folder.join("runtime")
    }

    /// `RUNTIME --root STATE --log LOG VERB`, with `folder` as its working directory.
    pub fn command(&self, verb: &str, folder: &Path) -> Command {
        let mut command = Command::new(&self.runtime.program);
        command.args(&self.runtime.arguments).arg("--root").arg(self.state());
        command.arg("--log").arg(log_file(folder)).args(["--log-format", "json"]).arg(verb);
        command.env_clear().env("PATH", PATH).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Lets the container's program begin.
    pub fn start(&self) -> Result<()> {
        self.call("start", &[])
    }

    /// Sends a signal to the container's first process.
    pub fn kill(&self, signal: i32) -> Result<()> {
        self.call("kill", &[signal.to_string()])
    }

    /// Ends the container and lets the runtime forget it. A runtime that is not installed any more, or does not know
    /// the container, has nothing to forget.
    pub fn delete(&self) -> Result<()> {
        let mut command = self.command("delete", &self.folder);
        let done = match command.args(["--force", &self.id]).status() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            status => {
                self.outcome("delete", &self.folder, status.during("run", &self.runtime.program)?.success())
            }
        };
        match done {
            Err(error) if self.state().join(&self.id).exists() => Err(error),
            _ => Ok(tree::remove_tree(&self.state())?),
        }
    }

    fn call(&self, verb: &'static str, further: &[String]) -> Result<()> {
        let mut command = self.command(verb, &self.folder);
        let status = command.arg(&self.id).args(further).status().during("run", &self.runtime.program)?;
        self.outcome(verb, &self.folder, status.success())
    }

    /// What a call that has ended came to; `folder` was its working directory.
    pub fn outcome(&self, verb: &str, folder: &Path, is_success: bool) -> Result<()> {
        let log = log_file(folder);
        let message = if is_success { None } else { Some(last_error(&log)?) };
        atomic::remove_file(&log)?;
        match message {
            None => Ok(()),
            Some(message) => Err(self.failure(verb, &message)),
        }
    }

    fn failure(&self, verb: &str, message: &str) -> Error {
        let name = &self.runtime.name;
        let message = if message.is_empty() { "it does not say why" } else { message };
        Error::Program {
            message: format!("the OCI runtime {name} cannot {verb} it: {message}"),
            exit_code: exit_code(message),
        }
    }
}

/// Several commands may call the runtime at once.
fn log_file(folder: &Path) -> PathBuf {
    folder.join(format!("runtime-{}.log", std::process::id()))
}

/// The last error in a log; a text that is none of a runtime's lines is taken as it is.
fn last_error(log: &Path) -> Result<String> {
    let mut text = Vec::new();
    match File::open(log) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        file => file.during("open", log)?.take(MAX_LOG_BYTES).read_to_end(&mut text).during("read", log)?,
    };
    let text = String::from_utf8_lossy(&text);
    let errors = text.lines().rev().filter(|line| !line.trim().is_empty());
    let message = |line: &str| match serde_json::from_str::<LogLine>(line) {
        Ok(line) => ["error", "fatal", "panic"].contains(&line.level.as_str()).then_some(line.msg),
        Err(_) => Some(line.to_owned()),
    };
    Ok(errors.into_iter().find_map(message).unwrap_or_default())
}

/// Runtimes tell in words alone that there is no program, or one that cannot be executed; podman reads the same.
fn exit_code(message: &str) -> u8 {
    let text = message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if !has(&["exec: ", "executable", "cannot start "]) {
        125
    } else if has(&["not found", "no such file or directory"]) {
        127
    } else if has(&["permission denied", "not permitted", "is a directory", "format error"]) {
        126
    } else {
        125
    }
}

/// Removes what one call needed.
pub(super) fn forget_folder(folder: &Path) {
    // What is left goes with the container.
    let _ = fs::remove_dir_all(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart_by_their_words() {
        for (message, code) in [
            ("unable to start container process: exec: \"nope\": executable file not found in $PATH", 127),
            ("executable file `nope` not found in $PATH: No such file or directory", 127),
            ("exec: \"/absent\": stat /absent: no such file or directory", 127),
            ("exec: \"/etc/passwd\": permission denied", 126),
            ("exec: \"/etc\": is a directory", 126),
            ("open executable: Operation not permitted", 126),
            ("exec failed: cannot set up the cgroup: permission denied", 125),
            ("cannot start /etc: Is a directory (os error 21)", 126),
            ("cannot start nope: executable file not found in the container's $PATH", 127),
            ("cannot set the cgroup limit: no such file or directory", 125),
            ("", 125),
        ] {
            assert_eq!(exit_code(message), code, "{message}");
        }
    }

    #[test]
    fn the_last_error_of_a_log_counts() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(last_error(&log).unwrap(), "");
        let text = "{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"second\"}\n\
                    {\"level\":\"warning\",\"msg\":\"third\"}\n\n";
        fs::write(&log, text).unwrap();
        assert_eq!(last_error(&log).unwrap(), "second");
        fs::write(&log, "in words\n").unwrap();
        assert_eq!(last_error(&log).unwrap(), "in words");
    }
}
