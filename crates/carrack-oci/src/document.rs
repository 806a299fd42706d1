//! Reading manifests, indexes and configs from bytes that are not trusted.

use serde::Deserialize;

use crate::{
    ImageConfig, Index, Manifest,
    json::{parse_strict, parse_strict_with},
    media_type,
};

/// The largest manifest, index or config that is read (distribution-spec, "Pushing manifests": at least 4 MiB).
pub const MAX_DOCUMENT_BYTES: u64 = 4 << 20;

const MAX_INDEX_ENTRIES: usize = 4096;
const MAX_LAYERS: usize = 500;

/// Keys of manifests and indexes, of the descriptors in them, and of their platforms (image-spec: manifest, image-index,
/// descriptor).
const KEYS: &[&str] = &[
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "digest",
    "size",
    "urls",
    "data",
    "platform",
    "architecture",
    "os",
    "os.version",
    "os.features",
    "variant",
];

/// Why bytes are not the document they should be.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or not of the document's shape.
    #[error("invalid {what}: {source}")]
    Syntax {
        /// Which document.
        what: &'static str,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// Larger than any document may be.
    #[error("{what} of {got_bytes} bytes: expected at most {MAX_DOCUMENT_BYTES}")]
    TooLarge {
        /// Which document.
        what: &'static str,
        /// Its size.
        got_bytes: u64,
    },
    /// The media type is none that carrack reads.
    #[error("unsupported media type {0:?}: expected an OCI or Docker schema 2 manifest or index")]
    UnsupportedMediaType(String),
    /// Well-formed, but it contradicts itself or the specification.
    #[error("invalid {what}: {reason}")]
    Contradiction {
        /// Which document.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// A manifest or an index, told apart by what the bytes themselves say.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a few exist at a time, and each is taken apart at once")]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// A list of manifests.
    Index(Index),
}

/// The keys that tell the two documents apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Parses a manifest or index that was announced as `announced` (the `Content-Type`, or a descriptor's media
    /// type). A body of another type, or one that is both manifest and index, is refused (CVE-2021-41190).
    pub fn parse(announced: &str, bytes: &[u8]) -> Result<Self, DocumentError> {
        check_size("manifest", bytes)?;
        let announced = announced.split(';').next().unwrap_or_default().trim();
        let shape: Shape = parse_strict_with(bytes, KEYS)
            .map_err(|source| DocumentError::Syntax { what: "manifest", source })?;
        let wrong = |reason: String| DocumentError::Contradiction { what: "manifest", reason };
        if shape.schema_version != 2 {
            return Err(DocumentError::UnsupportedMediaType(format!(
                "schema version {}",
                shape.schema_version
            )));
        }
        let own = shape.media_type.as_deref().unwrap_or(announced);
        if own != announced {
            return Err(wrong(format!("announced as {announced}, says of itself {own}")));
        }
        if shape.manifests.is_some() && (shape.config.is_some() || shape.layers.is_some()) {
            return Err(wrong("it is both a manifest and an index".to_owned()));
        }
        match own {
            own if media_type::is_manifest(own) => parse_manifest(bytes).map(Self::Manifest),
            own if media_type::is_index(own) => parse_index(bytes).map(Self::Index),
            own => Err(DocumentError::UnsupportedMediaType(own.to_owned())),
        }
    }
}

/// Of bytes whose keys are checked.
fn parse_manifest(bytes: &[u8]) -> Result<Manifest, DocumentError> {
    let what = "manifest";
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|source| DocumentError::Syntax { what, source })?;
    if manifest.layers.len() > MAX_LAYERS {
        let reason = format!("{} layers: expected at most {MAX_LAYERS}", manifest.layers.len());
        return Err(DocumentError::Contradiction { what, reason });
    }
    Ok(manifest)
}

/// Of bytes whose keys are checked.
fn parse_index(bytes: &[u8]) -> Result<Index, DocumentError> {
    let what = "index";
    let index: Index =
        serde_json::from_slice(bytes).map_err(|source| DocumentError::Syntax { what, source })?;
    if index.manifests.len() > MAX_INDEX_ENTRIES {
        let reason = format!("{} entries: expected at most {MAX_INDEX_ENTRIES}", index.manifests.len());
        return Err(DocumentError::Contradiction { what, reason });
    }
    Ok(index)
}

impl ImageConfig {
    /// Parses the config of `manifest`; the number of its diff IDs must be that of the manifest's layers.
    pub fn parse(bytes: &[u8], manifest: &Manifest) -> Result<Self, DocumentError> {
        let what = "config";
        check_size(what, bytes)?;
        let config: Self = parse_strict(bytes).map_err(|source| DocumentError::Syntax { what, source })?;
        let (diff_ids, layers) = (config.rootfs.diff_ids.len(), manifest.layers.len());
        if diff_ids != layers {
            let reason = format!("it has {diff_ids} diff IDs, its manifest has {layers} layers");
            return Err(DocumentError::Contradiction { what, reason });
        }
        Ok(config)
    }
}

fn check_size(what: &'static str, bytes: &[u8]) -> Result<(), DocumentError> {
    let got_bytes = bytes.len() as u64;
    if got_bytes > MAX_DOCUMENT_BYTES { Err(DocumentError::TooLarge { what, got_bytes }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Descriptor, Digest, Platform};
    use media_type::{DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};

    fn manifest_json() -> serde_json::Value {
        let layer = Descriptor::of(OCI_LAYER, b"layer");
        serde_json::to_value(Manifest::oci(Descriptor::of(OCI_CONFIG, b"config"), vec![layer])).unwrap()
    }

    fn error(announced: &str, value: &serde_json::Value) -> String {
        Document::parse(announced, &serde_json::to_vec(value).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn reads_a_manifest_and_its_parameters() {
        let bytes = serde_json::to_vec(&manifest_json()).unwrap();
        assert!(matches!(Document::parse(OCI_MANIFEST, &bytes), Ok(Document::Manifest(_))));
        assert!(matches!(
            Document::parse(&format!("{OCI_MANIFEST}; charset=utf-8"), &bytes),
            Ok(Document::Manifest(_))
        ));
    }

    #[test]
    fn refuses_what_is_ambiguous() {
        let mut both = manifest_json();
        both["manifests"] = serde_json::json!([]);
        assert!(error(OCI_MANIFEST, &both).contains("both a manifest and an index"));
        assert!(error(DOCKER_MANIFEST, &manifest_json()).contains("says of itself"));
        let mut index = serde_json::to_value(Index::oci(vec![])).unwrap();
        index["mediaType"] = OCI_MANIFEST.into();
        assert!(error(OCI_INDEX, &index).contains("says of itself"));
    }

    #[test]
    fn refuses_lookalikes() {
        let mut both = manifest_json();
        both["Layers"] = serde_json::json!([]);
        assert!(error(OCI_MANIFEST, &both).contains("looks like it"));
        let mut capital = manifest_json();
        capital["Layers"] = capital["layers"].take();
        assert!(
            error(OCI_MANIFEST, &capital).contains("invalid manifest"),
            "null and misspelt layers are not layers"
        );
        assert!(error("text/html", &manifest_json()).contains("says of itself"));
        assert!(
            error("text/html", &serde_json::json!({"schemaVersion": 2})).contains("unsupported media type")
        );
        assert!(error(OCI_MANIFEST, &serde_json::json!({"schemaVersion": 1})).contains("schema version 1"));
        let large = vec![b' '; MAX_DOCUMENT_BYTES as usize + 1];
        assert!(matches!(Document::parse(OCI_MANIFEST, &large), Err(DocumentError::TooLarge { .. })));
    }

    #[test]
    fn a_config_has_a_diff_id_for_each_layer() {
        let manifest: Manifest = serde_json::from_value(manifest_json()).unwrap();
        let mut config = ImageConfig::empty(&Platform::host());
        let parse =
            |config: &ImageConfig| ImageConfig::parse(&serde_json::to_vec(config).unwrap(), &manifest);
        assert!(parse(&config).unwrap_err().to_string().contains("0 diff IDs, its manifest has 1 layers"));
        config.rootfs.diff_ids.push(crate::DiffId(Digest::of(b"layer")));
        assert!(parse(&config).is_ok());
    }

    #[test]
    fn docker_nulls_are_read_as_absent() {
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": null}, "history": null,
            "config": {"User": "", "Env": null, "Cmd": null, "Volumes": null, "OnBuild": null, "Labels": null},
        });
        let mut manifest: Manifest = serde_json::from_value(manifest_json()).unwrap();
        manifest.layers.clear();
        let config = ImageConfig::parse(&serde_json::to_vec(&config).unwrap(), &manifest).unwrap();
        assert_eq!(config.config, crate::ContainerConfig::default());
    }
}
