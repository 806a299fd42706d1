//! Content digests (OCI image-spec, `descriptor.md`, "Digests") and the ids that are made of them.
//!
//! Invariant: a [`Digest`] has been checked for its algorithm and the length and case of its hex part, so it can
//! be used as a file name.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// Why a text is not a digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid digest {text:?}: {reason}")]
pub struct DigestError {
    /// What was given, cut to a printable length.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// `algorithm:hex` over exact bytes; `sha256` (64 hex digits) and `sha512` (128) are accepted.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Computes the `sha256` digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::sha256();
        hasher.update(bytes);
        hasher.finish()
    }

    /// `sha256` or `sha512`.
    pub fn algorithm(&self) -> &str {
        self.0.split_once(':').expect("checked when parsed").0
    }

    /// The lower-case hex part, safe as a file name.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').expect("checked when parsed").1
    }

    /// The whole text, `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 hex digits, as users see ids.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// A hasher of this digest's algorithm.
    pub fn hasher(&self) -> Hasher {
        match self.algorithm() {
            "sha512" => Hasher(Algorithm::Sha512(Sha512::new())),
            _ => Hasher::sha256(),
        }
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let refuse = |reason| DigestError { text: text.chars().take(150).collect(), reason };
        let (algorithm, hex) = text.split_once(':').ok_or_else(|| refuse("expected algorithm:hex"))?;
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return Err(refuse("expected the algorithm sha256 or sha512")),
        };
        if hex.len() != length {
            return Err(refuse("wrong number of hex digits"));
        }
        if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(refuse("expected lower-case hex digits"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The digest of a layer's uncompressed tar (OCI image-spec, `config.md`, "Layer DiffID").
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

impl fmt::Display for DiffId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The id of a stack of layers (OCI image-spec, `config.md`, "Layer ChainID").
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// The chain of `layer` put on `parent`; the first layer's chain id is its diff ID.
    pub fn child(parent: Option<&ChainId>, layer: &DiffId) -> Self {
        match parent {
            None => Self(layer.0.clone()),
            Some(parent) => Self(Digest::of(format!("{} {}", parent.0, layer.0).as_bytes())),
        }
    }

    /// The chain ids of a stack, base first: one for each layer.
    pub fn stack(layers: &[DiffId]) -> Vec<Self> {
        let mut chain: Vec<Self> = Vec::with_capacity(layers.len());
        for layer in layers {
            chain.push(Self::child(chain.last(), layer));
        }
        chain
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[derive(Clone)]
enum Algorithm {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// Computes a digest piece by piece.
#[derive(Clone)]
pub struct Hasher(Algorithm);

impl Hasher {
    /// A hasher of the algorithm that carrack itself writes.
    pub fn sha256() -> Self {
        Self(Algorithm::Sha256(Sha256::new()))
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Algorithm::Sha256(hasher) => hasher.update(bytes),
            Algorithm::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> Digest {
        let (name, bytes) = match self.0 {
            Algorithm::Sha256(hasher) => ("sha256", hasher.finalize().to_vec()),
            Algorithm::Sha512(hasher) => ("sha512", hasher.finalize().to_vec()),
        };
        let mut text = String::with_capacity(name.len() + 1 + bytes.len() * 2);
        text.push_str(name);
        text.push(':');
        for byte in bytes {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).expect("a nibble is below 16"));
            }
        }
        Digest(text)
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader that hashes and counts what passes through it.
pub struct VerifyingReader<R> {
    inner: R,
    hasher: Hasher,
    bytes_read: u64,
}

impl<R: Read> VerifyingReader<R> {
    /// Wraps `inner`; bytes are hashed with `hasher` as they are read.
    pub fn new(inner: R, hasher: Hasher) -> Self {
        Self { inner, hasher, bytes_read: 0 }
    }

    /// The digest and number of all bytes read so far.
    pub fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.bytes_read)
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes_read += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn computes_and_splits() {
        let digest = Digest::of(b"");
        assert_eq!(digest.as_str(), EMPTY);
        assert_eq!((digest.algorithm(), digest.short()), ("sha256", "e3b0c44298fc"));
    }

    #[test]
    fn refuses_what_could_become_a_path() {
        for text in [
            "",
            "sha256",
            "sha256:",
            "sha256:../../../../../../../../../../../../../../../../../../../../etc/passwd",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &EMPTY.to_uppercase(),
            &format!("{EMPTY}0"),
            &EMPTY.replace("e3b0", "e3/0"),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn chains_by_the_specification() {
        let layers = [DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b"))];
        let chain = ChainId::stack(&layers);
        assert_eq!(chain[0].0, layers[0].0);
        assert_eq!(chain[1].0, Digest::of(format!("{} {}", layers[0], layers[1]).as_bytes()));
    }
}
