//! Container ids: 32 random bytes as 64 hex digits, safe as a file name.

use std::fmt;
use std::str::FromStr;

use carrack_sys::IoContext;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

const DIGITS: usize = 64;
const SHORT_DIGITS: usize = 12;

/// The id of a container.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// Draws a new id. Its short form has a letter, so that nobody takes it for a number (a host name, a port).
    pub fn random() -> Result<Self> {
        loop {
            let mut bytes = [0u8; DIGITS / 2];
            fill_random(&mut bytes)?;
            let id = Self::from_bytes(bytes);
            if !id.short().bytes().all(|byte| byte.is_ascii_digit()) {
                return Ok(id);
            }
        }
    }

    pub(crate) fn from_bytes(bytes: [u8; DIGITS / 2]) -> Self {
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        Self(digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect())
    }

    pub(crate) fn bytes(&self) -> [u8; DIGITS / 2] {
        let byte = |index: usize| u8::from_str_radix(&self.0[2 * index..2 * index + 2], 16);
        std::array::from_fn(|index| byte(index).expect("an id has hex digits only"))
    }

    /// All 64 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 hex digits, as users see ids.
    pub fn short(&self) -> &str {
        &self.0[..SHORT_DIGITS]
    }
}

/// Fills a buffer of at most 256 bytes, which the kernel does in one piece.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    getrandom(bytes, GetRandomFlags::empty()).during("read", "random numbers")?;
    Ok(())
}

impl FromStr for ContainerId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_id =
            text.len() == DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match is_id {
            true => Ok(Self(text.to_owned())),
            false => Err(Error::InvalidId { text: text.chars().take(100).collect() }),
        }
    }
}

impl TryFrom<String> for ContainerId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_parse_and_differ() {
        let (one, two) = (ContainerId::random().unwrap(), ContainerId::random().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.as_str().parse::<ContainerId>().unwrap(), one);
        assert_eq!(one.short().len(), 12);
    }

    #[test]
    fn refuses_what_could_become_a_path() {
        for text in ["", "abc", &"A".repeat(64), &"../".repeat(22)[..64], &"a".repeat(65)] {
            assert!(text.parse::<ContainerId>().is_err(), "{text:?} was accepted");
        }
    }
}
