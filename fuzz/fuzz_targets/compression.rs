//! Any bytes as a compressed layer: an error or bytes, in bounded memory (the fuzzer limits it).
#![no_main]

use std::io::{Cursor, Read};

use carrack_layer::compression;
use libfuzzer_sys::fuzz_target;

const MAX_BYTES: u64 = 16 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Ok((_, reader)) = compression::auto(Cursor::new(bytes.to_vec())) else { return };
    let _ = std::io::copy(&mut reader.take(MAX_BYTES), &mut std::io::sink());
});
