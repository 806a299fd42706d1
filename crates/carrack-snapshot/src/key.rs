//! The names of snapshots that are not committed.
//!
//! Invariant: a [`SnapshotKey`] can be used as a file name.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

const MAX_LENGTH: usize = 128;

/// Why a text is not a key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid snapshot key {text:?}: expected 1 to 128 of a-z, 0-9 and -, not beginning with -")]
pub struct KeyError {
    /// What was given.
    pub text: String,
}

/// The name of an active snapshot or a view, chosen by the caller: `[a-z0-9][a-z0-9-]{0,127}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotKey(String);

impl SnapshotKey {
    /// Checks a key.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        let is_valid = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        match is_valid && (1..=MAX_LENGTH).contains(&text.len()) && !text.starts_with('-') {
            true => Ok(Self(text.to_owned())),
            false => Err(KeyError { text: text.chars().take(2 * MAX_LENGTH).collect() }),
        }
    }

    /// A key that no other process or thread makes: `PURPOSE-TIME-PID-N`. What is no key in `purpose` is left out.
    pub fn unique(purpose: &str) -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let allowed = |character: &char| matches!(character, 'a'..='z' | '0'..='9');
        let purpose: String = purpose.chars().filter(allowed).take(32).collect();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let (process, number) = (std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        Self(format!("x{purpose}-{time:x}-{process}-{number}"))
    }

    /// The text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SnapshotKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

impl TryFrom<String> for SnapshotKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        Self::new(&text)
    }
}

impl From<SnapshotKey> for String {
    fn from(key: SnapshotKey) -> Self {
        key.0
    }
}

impl fmt::Display for SnapshotKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_file_names() {
        for text in ["a", "container-0af3", "0", &"a".repeat(128)] {
            assert!(SnapshotKey::new(text).is_ok(), "{text:?} was refused");
        }
        for text in ["", ".", "..", "a/b", "-a", "A", "a_b", "a\0", &"a".repeat(129)] {
            assert!(SnapshotKey::new(text).is_err(), "{text:?} was accepted");
        }
        let unique = [SnapshotKey::unique("Step 1/../"), SnapshotKey::unique("")];
        assert_ne!(unique[0], unique[1]);
        assert!(unique.iter().all(|key| SnapshotKey::new(key.as_str()).is_ok()));
    }
}
