//! The OCI runtime that starts a container in carrack's place.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A program with the command line of runc. It is settled when the container is created, so that settings that change
/// later leave no container to a runtime that does not know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherRuntime {
    /// As the user named it.
    pub name: String,
    /// The program, absolute.
    pub program: PathBuf,
    /// What stands before the command in all its calls.
    #[serde(default)]
    pub arguments: Vec<String>,
}
