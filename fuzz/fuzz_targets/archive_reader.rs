//! Any bytes as an archive of images (docker-archive, oci-archive, compressed or not): an error, or images whose
//! documents are verified and whose blobs have their sizes.
#![no_main]

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use carrack_image::transport;
use carrack_oci::Document;
use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};

const MAX_BYTES: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let mut file = File::from(memfd_create("archive", MemfdFlags::CLOEXEC).expect("memory"));
    file.write_all(bytes).and_then(|()| file.rewind()).expect("memory");
    let Ok(source) = transport::open_file(file, Path::new("archive"), &std::env::temp_dir()) else { return };
    for root in source.roots() {
        let Ok(bytes) = source.manifest(&root.descriptor) else { continue };
        let Ok(Document::Manifest(manifest)) = Document::parse(&root.descriptor.media_type, &bytes) else { continue };
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if let Ok(blob) = source.blob(blob) {
                let _ = std::io::copy(&mut blob.take(MAX_BYTES), &mut std::io::sink());
            }
        }
    }
});
