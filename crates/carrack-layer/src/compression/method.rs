//! Compressing a layer for its way out, on several threads.
//!
//! Invariant: the bytes depend on the data, the method and [`ENCODER`] only, never on the number of threads or the
//! time, so that a compressed layer can be thrown away and made again.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use super::{gzip, zstd_frames};

/// The revision of the compressors here. Whoever keeps a method to make the same bytes again keeps this number with it:
/// it is raised when a change, also one of a library, makes other bytes (a test holds their digests).
pub const ENCODER: u32 = 1;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// RFC 1952, one member.
    Gzip {
        /// 1 to 9.
        level: u32,
    },
    /// RFC 8878, one frame for each 8 MiB.
    Zstd {
        /// 1 to 22.
        level: u32,
    },
}

impl Method {
    /// The level that `gzip` itself uses.
    pub const DEFAULT_GZIP: Self = Self::Gzip { level: 6 };
    /// The level that `zstd` itself uses.
    pub const DEFAULT_ZSTD: Self = Self::Zstd { level: 3 };

    /// The same kind of compression at another level.
    pub fn at_level(self, level: u32) -> Result<Self, MethodError> {
        let (method, name, limit) = match self {
            Self::Gzip { .. } => (Self::Gzip { level }, "gzip", 9),
            Self::Zstd { .. } => (Self::Zstd { level }, "zstd", 22),
        };
        match (1..=limit).contains(&level) {
            true => Ok(method),
            false => Err(MethodError::Level { name, level, limit }),
        }
    }

    /// Compresses all of `source` to `sink` on up to `threads` threads.
    pub fn compress(self, source: &mut dyn Read, sink: &mut dyn Write, threads: usize) -> io::Result<()> {
        match self {
            Self::Gzip { level } => gzip::compress(level, source, sink, threads),
            Self::Zstd { level } => zstd_frames::compress(level, source, sink, threads),
        }
    }
}

/// Why a text is not a method of compression.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// None of the names.
    #[error("gzip[:1-9], zstd[:1-22] or none, not {0:?}")]
    Name(String),
    /// A level out of range.
    #[error("a level of {name} from 1 to {limit}, not {level}")]
    Level {
        /// The compression.
        name: &'static str,
        /// What was asked for.
        level: u32,
        /// The highest that there is.
        limit: u32,
    },
}

impl FromStr for Method {
    type Err = MethodError;

    fn from_str(text: &str) -> Result<Self, MethodError> {
        let refuse = || MethodError::Name(text.to_owned());
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level.parse().map_err(|_| refuse())?)),
            None => (text, None),
        };
        let method = match name {
            "gzip" => Self::DEFAULT_GZIP,
            "zstd" => Self::DEFAULT_ZSTD,
            _ => return Err(refuse()),
        };
        level.map_or(Ok(method), |level| method.at_level(level))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip { level } => write!(formatter, "gzip:{level}"),
            Self::Zstd { level } => write!(formatter, "zstd:{level}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_levels() {
        for (text, normal) in
            [("gzip", "gzip:6"), ("gzip:9", "gzip:9"), ("zstd", "zstd:3"), ("zstd:19", "zstd:19")]
        {
            assert_eq!(text.parse::<Method>().unwrap().to_string(), normal);
        }
        for text in ["", "lz4", "gzip:", "gzip:0", "gzip:10", "zstd:23", "zstd:-1", "zstd:chunked"] {
            assert!(text.parse::<Method>().is_err(), "{text:?} was accepted");
        }
    }
}
