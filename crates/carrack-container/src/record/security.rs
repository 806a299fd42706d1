//! What the processes of a container may do.

use serde::{Deserialize, Serialize};

/// Rights, more or less than the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecuritySettings {
    /// Whether it may do what root of the host may.
    pub privileged: bool,
    /// Capabilities on top of the default, as given (`NET_ADMIN`, `ALL`).
    pub cap_add: Vec<String>,
    /// Capabilities taken from the default, as given.
    pub cap_drop: Vec<String>,
    /// Security options, as given (`no-new-privileges`, `seccomp=unconfined`).
    pub options: Vec<String>,
    /// What SELinux calls it; `None` where SELinux was off when it was created.
    pub contexts: Option<Contexts>,
}

/// SELinux contexts, chosen once: what a container writes keeps its label from one start to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contexts {
    /// Of its processes; `None` leaves it to the host's policy, as for every program of root.
    pub process: Option<String>,
    /// Of its files.
    pub files: String,
}
