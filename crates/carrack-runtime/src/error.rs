//! What can go wrong when a container is made, told apart as far as the exit code of `run` and `exec` needs it.

use std::io;
use std::path::PathBuf;

use crate::seccomp::CompileError;

/// The result of a runtime operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A container or process that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error(transparent)]
    Sys(#[from] carrack_sys::Error),
    /// The spec asks for what cannot be had.
    #[error("cannot use the container's spec: {reason}")]
    Spec {
        /// What was expected and what was got.
        reason: String,
    },
    /// The seccomp profile cannot be compiled.
    #[error("cannot use the container's seccomp profile: {0}")]
    Seccomp(#[from] CompileError),
    /// The program does not exist in the container.
    #[error("cannot start {program}: executable file not found in the container's $PATH")]
    NotFound {
        /// The first argument of the process.
        program: String,
    },
    /// The program exists and cannot be executed.
    #[error("cannot start {program}: {source}")]
    NotExecutable {
        /// The first argument of the process.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The container's first process failed or was killed before it became the container's program.
    #[error("cannot set up the container: {message}")]
    Setup {
        /// The error inside the container.
        message: String,
    },
    /// The program that calls the runtime could be overwritten by the container (CVE-2019-5736).
    #[error(
        "cannot start a container: the running executable is writable through /proc/self/exe; \
         it must be started from the descriptor that executable::read_only returns"
    )]
    ExecutableWritable,
    /// A user or group does not exist in the container's files.
    #[error("cannot find the {kind} {name} in the container's {file}")]
    UnknownUser {
        /// "user" or "group".
        kind: &'static str,
        /// The name.
        name: String,
        /// Where it was sought.
        file: &'static str,
    },
    /// systemd did not make, change or end a cgroup.
    #[error("systemd was asked for a cgroup: {reason}")]
    Systemd {
        /// What it answered, or why there is no answer.
        reason: String,
    },
    /// A hook of the spec failed.
    #[error("the {kind} hook {path} failed: {reason}")]
    Hook {
        /// Which of the six kinds.
        kind: &'static str,
        /// The program.
        path: String,
        /// Its exit, its output, or why it could not run.
        reason: String,
    },
    /// A bundle that is not one, or asks for what cannot be had.
    #[error("cannot use the bundle {path}: {reason}", path = path.display())]
    Bundle {
        /// The folder.
        path: PathBuf,
        /// What was expected and what was got.
        reason: String,
    },
    /// A text that cannot be the id of a container.
    #[error("cannot use {id:?} as a container id: expected letters, digits and _ + - . not at its begin")]
    InvalidId {
        /// The text.
        id: String,
    },
    /// The id is in use.
    #[error("cannot create the container {id}: a container with that id exists")]
    Exists {
        /// The id.
        id: String,
    },
    /// No container has this id.
    #[error("cannot find the container {id}: container does not exist")]
    NoContainer {
        /// The id.
        id: String,
    },
    /// The container's status does not allow the operation.
    #[error("cannot {verb} the container {id}: {reason}")]
    WrongStatus {
        /// What was asked for.
        verb: &'static str,
        /// The id.
        id: String,
        /// The status, and the one it should be.
        reason: String,
    },
    /// A text that is not `user[:group]`.
    #[error("cannot use {text:?} as a user: {reason}")]
    InvalidUser {
        /// The text.
        text: String,
        /// What was expected.
        reason: &'static str,
    },
}

impl Error {
    /// The exit code that `docker run` has for this failure: 127, 126 or 125.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }

    pub(crate) fn spec(reason: impl Into<String>) -> Self {
        Self::Spec { reason: reason.into() }
    }
}
