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
}
