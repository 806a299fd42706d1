//! Manifests and indexes, OCI (image-spec, `manifest.md`, `image-index.md`) and Docker schema 2 alike: the two
//! differ in media types only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Descriptor, Platform, media_type};

/// One image: its config and its layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own media type; OCI allows it to be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The type of an artifact that is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, base first.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Keys of the image's author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// An OCI manifest of `config` and `layers`.
    pub fn oci(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: None,
        }
    }
}

/// A list of manifests, usually one a platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own media type; OCI allows it to be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The type of an artifact that is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The entries.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Keys of the image's author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Index {
    /// An OCI index of `manifests`.
    pub fn oci(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: None,
        }
    }

    /// The entry that runs best on `platform`: the nearest variant, the first of equals.
    ///
    /// Entries whose platform is `unknown/unknown` (attestations) are never chosen. An entry without a platform
    /// is taken only when it is the index's single manifest: it then says nothing against running here.
    pub fn choose(&self, platform: &Platform) -> Option<&Descriptor> {
        let manifests = || self.manifests.iter().filter(|entry| !media_type::is_index(&entry.media_type));
        let best = manifests()
            .filter_map(|entry| Some((platform.distance(entry.platform.as_ref()?)?, entry)))
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, entry)| entry);
        best.or_else(|| {
            let mut entries = manifests();
            let only = entries.next().filter(|_| entries.next().is_none());
            only.filter(|entry| entry.platform.is_none())
        })
    }

    /// The platforms on offer, for an error that says what there is.
    pub fn platforms(&self) -> Vec<String> {
        let known = self.manifests.iter().filter_map(|entry| entry.platform.as_ref());
        known.filter(|platform| platform.os != "unknown").map(Platform::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[Option<&str>]) -> Index {
        let entry = |(number, platform): (usize, &Option<&str>)| {
            let mut entry = Descriptor::of(media_type::OCI_MANIFEST, &[number as u8]);
            entry.platform = platform.map(|text| text.parse().unwrap());
            entry
        };
        Index::oci(platforms.iter().enumerate().map(entry).collect())
    }

    #[test]
    fn chooses_the_platform_and_never_an_attestation() {
        let index = index(&[
            Some("unknown/unknown"),
            Some("linux/arm/v6"),
            Some("linux/amd64"),
            Some("linux/arm/v7"),
        ]);
        let choose = |text: &str| index.choose(&text.parse().unwrap()).map(|entry| entry.digest.clone());
        assert_eq!(choose("linux/amd64"), Some(index.manifests[2].digest.clone()));
        assert_eq!(choose("linux/arm/v7"), Some(index.manifests[3].digest.clone()));
        assert_eq!(choose("linux/s390x"), None);
        assert_eq!(index.platforms(), ["linux/arm/v6", "linux/amd64", "linux/arm/v7"]);
    }

    #[test]
    fn takes_a_single_entry_without_platform() {
        assert!(index(&[None]).choose(&Platform::host()).is_some());
        assert!(index(&[None, None]).choose(&Platform::host()).is_none());
    }
}
