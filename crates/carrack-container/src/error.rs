//! What can go wrong with containers.

use std::io;
use std::path::PathBuf;

use crate::{ContainerId, Status};

/// The result of an operation on containers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation on a container failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or the kernel refused.
    #[error(transparent)]
    System(#[from] carrack_sys::Error),
    /// No container has this name or id.
    #[error("no such container: {text}")]
    NotFound {
        /// What the user named.
        text: String,
    },
    /// The beginning of an id fits more than one container.
    #[error("ambiguous container {text:?}: {count} ids begin with it")]
    Ambiguous {
        /// What the user named.
        text: String,
        /// How many containers fit.
        count: usize,
    },
    /// The name belongs to another container.
    #[error("the container name {name:?} is in use by container {owner}")]
    NameTaken {
        /// The name that was asked for.
        name: String,
        /// The container that has it.
        owner: ContainerId,
    },
    /// The text cannot be a container's name.
    #[error("invalid container name {text:?}: expected [a-zA-Z0-9][a-zA-Z0-9_.-]+, up to 200 bytes")]
    InvalidName {
        /// What was given, cut to a printable length.
        text: String,
    },
    /// The text cannot be a volume's name.
    #[error("invalid volume name {text:?}: expected [a-zA-Z0-9][a-zA-Z0-9_.-]*, up to 255 bytes")]
    InvalidVolumeName {
        /// What was given, cut to a printable length.
        text: String,
    },
    /// No volume has this name.
    #[error("no such volume: {name}")]
    VolumeNotFound {
        /// What the user named.
        name: String,
    },
    /// A volume of this name exists.
    #[error("the volume {name} exists already")]
    VolumeExists {
        /// The name.
        name: String,
    },
    /// The text cannot be a secret's name.
    #[error(
        "invalid secret name {text:?}: expected letters, digits, and within also - _ and ., up to 253 bytes, not lock"
    )]
    InvalidSecretName {
        /// What was given, cut to a printable length.
        text: String,
    },
    /// No secret has this name or id.
    #[error("no such secret: {name}")]
    SecretNotFound {
        /// What the user named.
        name: String,
    },
    /// A secret of this name exists.
    #[error("the secret {name} exists already")]
    SecretExists {
        /// The name.
        name: String,
    },
    /// A secret is empty or too long.
    #[error("expected a secret of 1 to {} bytes, got {bytes}", crate::secrets::MAX_SECRET_BYTES)]
    SecretSize {
        /// How long it is, as far as it was read.
        bytes: usize,
    },
    /// The text is not 64 lower-case hex digits.
    #[error("invalid container id {text:?}: expected 64 lower-case hex digits")]
    InvalidId {
        /// What was given, cut to a printable length.
        text: String,
    },
    /// The state machine has no such step.
    #[error("cannot {action} a container that is {status}")]
    Transition {
        /// What was asked, as in "start".
        action: &'static str,
        /// The status that does not allow it.
        status: Status,
    },
    /// The first process of a run whose monitor was lost still lives.
    #[error("cannot start the container: process {pid} of its last run is still alive")]
    StillAlive {
        /// The process, to be killed through [`ProcessId::open`](crate::ProcessId::open).
        pid: i32,
    },
    /// A file of the store does not have the form that carrack writes.
    #[error("cannot read {}: {source}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The peer of an attach socket does not speak the protocol.
    #[error("attach protocol: {reason}")]
    Protocol {
        /// What is wrong.
        reason: &'static str,
    },
    /// The receiver of the output (the user's terminal or pipe) failed.
    #[error("cannot write the output: {source}")]
    Output {
        /// What the kernel said; `BrokenPipe` when the reader went away.
        source: io::Error,
    },
    /// Not a sequence of keys.
    #[error(
        "invalid detach keys {text:?}: expected keys like ctrl-p,ctrl-q or single characters, joined by commas"
    )]
    InvalidDetachKeys {
        /// What was given.
        text: String,
    },
}

impl Error {
    /// Whether the named container does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}
