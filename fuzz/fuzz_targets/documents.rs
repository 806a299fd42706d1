//! Any bytes as a manifest, an index and a config: an error, or a document that survives being written and read.
#![no_main]

use carrack_oci::{Document, ImageConfig, media_type};
use libfuzzer_sys::fuzz_target;

const KINDS: [&str; 4] = media_type::MANIFESTS;

fuzz_target!(|bytes: &[u8]| {
    for kind in KINDS {
        match Document::parse(kind, bytes) {
            Ok(Document::Manifest(manifest)) => {
                let written = serde_json::to_vec(&manifest).expect("a manifest can be written");
                let Ok(Document::Manifest(again)) = Document::parse(kind, &written) else {
                    panic!("{} is no manifest any more", String::from_utf8_lossy(&written));
                };
                assert_eq!(again, manifest);
                // A config is judged against the manifest that names it.
                let _ = ImageConfig::parse(bytes, &manifest);
            }
            Ok(Document::Index(index)) => {
                let written = serde_json::to_vec(&index).expect("an index can be written");
                let Ok(Document::Index(again)) = Document::parse(kind, &written) else {
                    panic!("{} is no index any more", String::from_utf8_lossy(&written));
                };
                assert_eq!(again, index);
                let _ = index.choose(&carrack_oci::Platform::host());
            }
            Err(_) => {}
        }
    }
    if let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
        let (manifest, config) = bytes.split_at(at);
        if let Ok(Document::Manifest(manifest)) = Document::parse(media_type::OCI_MANIFEST, manifest)
            && let Ok(config) = ImageConfig::parse(config, &manifest)
        {
            assert_eq!(config.rootfs.diff_ids.len(), manifest.layers.len());
            serde_json::to_vec(&config).expect("a config can be written");
        }
    }
});
