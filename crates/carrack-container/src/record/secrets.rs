//! Secrets that a container is shown: their names, never their data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A secret in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    /// Its name; the data is read at each start.
    pub name: String,
    /// Where the program finds it.
    pub place: SecretPlace,
}

/// Where a program finds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretPlace {
    /// In a file.
    File {
        /// Its path in the container.
        target: PathBuf,
        /// Its owner, as the container has it.
        uid: u32,
        /// Its group, as the container has it.
        gid: u32,
        /// Its mode bits.
        mode: u32,
    },
    /// In a variable.
    Variable {
        /// Its name.
        name: String,
    },
}
