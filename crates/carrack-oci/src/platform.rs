//! Platforms (OCI image-spec, `image-index.md`, "platform"): which image of an index runs here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid platform {0:?}: expected os/architecture[/variant], as in linux/arm64")]
pub struct PlatformError(String);

/// Operating system, architecture and variant, in Go's names (`linux`, `amd64`, `v8`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The CPU architecture (`amd64`, `arm64`, `arm`, `386` ...).
    pub architecture: String,
    /// The operating system.
    pub os: String,
    /// The version of the operating system (Windows only in practice).
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// What the operating system must be able to do (`win32k`).
    #[serde(rename = "os.features", default, skip_serializing_if = "Option::is_none")]
    pub os_features: Option<Vec<String>>,
    /// The variant of the CPU (`v7` of `arm`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What the CPU must be able to do (`sse4`); OCI reserves the key, Docker's lists have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,
}

impl Platform {
    /// A platform in normal form: `x86_64` becomes `amd64`, `arm64/v8` loses its variant, `arm` gains `v7`.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = os.to_ascii_lowercase();
        let (architecture, variant) = normalise(&architecture.to_ascii_lowercase(), variant);
        Self { os, architecture, variant, os_version: None, os_features: None, features: None }
    }

    /// The platform this binary runs on.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, None)
    }

    /// How well an image of platform `candidate` runs on `self`: 0 is exact, higher is worse, `None` not at all.
    ///
    /// An older variant of the same architecture runs on a newer CPU (`arm/v6` on `arm/v7`), never the reverse.
    pub fn distance(&self, candidate: &Platform) -> Option<u32> {
        let candidate = Self::new(&candidate.os, &candidate.architecture, candidate.variant.as_deref());
        if candidate.os != self.os || candidate.architecture != self.architecture {
            return None;
        }
        let (own, other) = (variant_level(&self.variant), variant_level(&candidate.variant));
        own.checked_sub(other)
    }
}

fn normalise(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let variant = variant.filter(|variant| !variant.is_empty()).map(str::to_ascii_lowercase);
    match (architecture, variant.as_deref()) {
        ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64".into(), None),
        ("x86_64" | "x86-64", _) => ("amd64".into(), variant),
        ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64".into(), None),
        ("aarch64", _) => ("arm64".into(), variant),
        ("armhf", _) => ("arm".into(), Some("v7".into())),
        ("armel", _) => ("arm".into(), Some("v6".into())),
        ("arm", None | Some("7")) => ("arm".into(), Some("v7".into())),
        ("arm", Some("5" | "6" | "8")) => ("arm".into(), variant.map(|digit| format!("v{digit}"))),
        ("i386" | "i686" | "x86", _) => ("386".into(), variant),
        ("powerpc64le", _) => ("ppc64le".into(), variant),
        _ => (architecture.to_owned(), variant),
    }
}

/// `v7` is 7; no variant is the architecture's base level.
fn variant_level(variant: &Option<String>) -> u32 {
    variant
        .as_deref()
        .and_then(|text| text.strip_prefix('v'))
        .and_then(|level| level.parse().ok())
        .unwrap_or(0)
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let wrong = || PlatformError(text.to_owned());
        let valid = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if !parts.iter().all(valid) {
            return Err(wrong());
        }
        match parts[..] {
            [architecture] if architecture != "linux" => Ok(Self::new("linux", architecture, None)),
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(formatter, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_normalises() {
        for (text, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("arm64", "linux/arm64"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), normal);
        }
        for text in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64"] {
            assert!(text.parse::<Platform>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn prefers_the_nearest_variant_below() {
        let host: Platform = "linux/arm/v7".parse().unwrap();
        let distance = |text: &str| host.distance(&text.parse().unwrap());
        assert_eq!(distance("linux/arm/v7"), Some(0));
        assert_eq!(distance("linux/arm/v6"), Some(1));
        assert_eq!(distance("linux/arm/v8"), None);
        assert_eq!(distance("linux/arm64"), None);
    }
}
