//! Sizes in settings, as people write them.

use serde::{Deserialize, Serialize};

/// A number of bytes: `20GB`, `512MiB`, `1.5T`, or a plain number. Without an `i` the units are decimal, as those of
/// disks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "u64")]
pub struct ByteSize(u64);

impl ByteSize {
    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// A size in a file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl TryFrom<Written> for ByteSize {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => parse(&text).map(Self),
        }
    }
}

impl From<ByteSize> for u64 {
    fn from(size: ByteSize) -> Self {
        size.0
    }
}

fn parse(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("{text:?} is no size: expected a number with B, kB, MB, GB, TB or KiB, MiB, GiB, TiB");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|symbol: char| !symbol.is_ascii_digit() && symbol != '.').unwrap_or(lower.len());
    let number: f64 = lower[..digits].parse().map_err(|_| wrong())?;
    let unit = lower[digits..].trim();
    let (base, letter) = match unit.strip_suffix("ib") {
        Some(letter) => (1024_f64, letter),
        None => (1000_f64, unit.strip_suffix('b').unwrap_or(unit)),
    };
    let power = match letter {
        "" if base == 1000.0 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong()),
    };
    let bytes = number * base.powi(power);
    if bytes.is_finite() && bytes < i64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_and_refuses_the_rest() {
        for (text, bytes) in [
            ("0", 0),
            ("20GB", 20_000_000_000),
            ("20 gb", 20_000_000_000),
            ("1.5k", 1500),
            ("512MiB", 512 << 20),
            ("7B", 7),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "-1", "1x", "1e400", "1ib", "99999999999T"] {
            assert!(parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
