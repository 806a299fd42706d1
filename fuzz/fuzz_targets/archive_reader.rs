//! Any bytes as an archive of images (docker-archive, oci-archive, compressed or not): an error, or images whose
//! documents are verified and whose blobs have their sizes.
#![no_main]

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::OnceLock;

use carrack_content::ContentStore;
use carrack_image::transport;
use carrack_oci::Document;
use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};
use tempfile::TempDir;

const MAX_BYTES: u64 = 1 << 20;

/// Where the layers of compressed archives go.
static STORE: OnceLock<(TempDir, ContentStore)> = OnceLock::new();

fn store() -> &'static ContentStore {
    let open = || {
        let folder = TempDir::new().expect("a temporary folder");
        let store = ContentStore::open(folder.path()).expect("a store");
        (folder, store)
    };
    &STORE.get_or_init(open).1
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    for (digest, _) in store().list().expect("the store can be listed") {
        store().delete(&digest).expect("a blob can be deleted");
    }
    assert!(store().ingests().expect("the store can be listed").is_empty(), "a writer left something");
});

fn read(bytes: &[u8]) {
    let mut file = File::from(memfd_create("archive", MemfdFlags::CLOEXEC).expect("memory"));
    file.write_all(bytes).and_then(|()| file.rewind()).expect("memory");
    let Ok(source) = transport::open_file(file, Path::new("archive"), store()) else { return };
    for root in source.roots() {
        let Ok(bytes) = source.manifest(&root.descriptor) else { continue };
        let Ok(Document::Manifest(manifest)) = Document::parse(&root.descriptor.media_type, &bytes) else { continue };
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if let Ok(blob) = source.blob(blob) {
                let _ = std::io::copy(&mut blob.take(MAX_BYTES), &mut std::io::sink());
            }
        }
    }
}
