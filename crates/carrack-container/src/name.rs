//! Container names: what users call containers; checked, so that a name can be a file name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::fill_random;
use crate::{Error, Result};

const MAX_BYTES: usize = 200;

/// A checked name: a letter or digit, then at least one of letters, digits, `_`, `.`, `-` (Docker's rule).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

impl ContainerName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Draws a name like `brave_compass`; from the `attempt`-th on, when most are taken, with a number behind it.
    pub(crate) fn random(attempt: u32) -> Result<Self> {
        const PAIRS_ONLY: u32 = 5;
        let mut bytes = [0u8; 4];
        fill_random(&mut bytes)?;
        let [adjective, noun, number @ ..] = bytes;
        let pick = |words: &[&'static str], byte: u8| words[usize::from(byte) % words.len()];
        let pair = format!("{}_{}", pick(&ADJECTIVES, adjective), pick(&NOUNS, noun));
        match attempt < PAIRS_ONLY {
            true => Ok(Self(pair)),
            false => Ok(Self(format!("{pair}{}", u16::from_le_bytes(number)))),
        }
    }
}

impl FromStr for ContainerName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = text.as_bytes();
        let valid = (2..=MAX_BYTES).contains(&bytes.len())
            && bytes[0].is_ascii_alphanumeric()
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte));
        match valid {
            true => Ok(Self(text.to_owned())),
            false => Err(Error::InvalidName { text: text.chars().take(100).collect() }),
        }
    }
}

impl TryFrom<String> for ContainerName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> Self {
        name.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

const ADJECTIVES: [&str; 64] = [
    "able", "agile", "amber", "ample", "azure", "bold", "brave", "breezy", "bright", "brisk", "calm",
    "candid", "clever", "coral", "cosy", "crisp", "daring", "deft", "eager", "early", "fair", "fleet",
    "fond", "frank", "gentle", "gilded", "glad", "grand", "hardy", "honest", "humble", "ivory", "jolly",
    "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow", "merry", "mild", "neat", "noble",
    "patient", "placid", "plucky", "polite", "proud", "quick", "quiet", "ready", "robust", "rosy", "serene",
    "silver", "sleek", "steady", "stout", "sunny", "swift", "tidy", "witty", "zesty",
];

const NOUNS: [&str; 64] = [
    "albatross",
    "anchor",
    "anvil",
    "atlas",
    "ballast",
    "barge",
    "beacon",
    "boatswain",
    "bowsprit",
    "breeze",
    "buoy",
    "cabin",
    "capstan",
    "caravel",
    "clipper",
    "compass",
    "cormorant",
    "cove",
    "cutter",
    "deck",
    "delta",
    "dinghy",
    "dolphin",
    "ferry",
    "fjord",
    "frigate",
    "galleon",
    "gannet",
    "gull",
    "halyard",
    "harbour",
    "helm",
    "heron",
    "horizon",
    "hull",
    "island",
    "jetty",
    "kelp",
    "keel",
    "lagoon",
    "lantern",
    "lighthouse",
    "lugger",
    "mast",
    "mizzen",
    "narwhal",
    "oar",
    "osprey",
    "otter",
    "pennant",
    "pilot",
    "plover",
    "port",
    "reef",
    "rudder",
    "sail",
    "schooner",
    "sextant",
    "spar",
    "spinnaker",
    "tern",
    "tiller",
    "wharf",
    "windlass",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_names_are_valid() {
        for attempt in 0..20 {
            let name = ContainerName::random(attempt).unwrap();
            assert_eq!(name.as_str().parse::<ContainerName>().unwrap(), name);
        }
    }

    #[test]
    fn refuses_what_could_become_a_path_or_an_option() {
        for text in ["", "a", "..", ".lock", "a/b", "-a", "_a", "a b", "a\n", "ä1", &"a".repeat(201)] {
            assert!(text.parse::<ContainerName>().is_err(), "{text:?} was accepted");
        }
        assert!("web-1.0_x".parse::<ContainerName>().is_ok());
    }
}
