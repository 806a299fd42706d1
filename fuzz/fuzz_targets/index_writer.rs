//! Any bytes as a layer: an error, or an index; the way through a stream and the way through a file agree.
#![no_main]

use std::io::Cursor;

use carrack_layer::{IndexOptions, index, index_file};
use libfuzzer_sys::fuzz_target;

const MAX_BYTES: u64 = 1 << 30;

fuzz_target!(|bytes: &[u8]| {
    let scratch = std::env::temp_dir();
    let options = IndexOptions { max_size_bytes: MAX_BYTES, ..IndexOptions::new(&scratch) };
    let (mut streamed, mut seeked) = (Cursor::new(Vec::new()), Cursor::new(Vec::new()));
    if let Ok(indexed) = index(bytes, &mut streamed, &options) {
        assert_eq!(indexed.index_bytes, streamed.get_ref().len() as u64);
        let again = index_file(Cursor::new(bytes), &mut seeked, &options).expect("what a stream gives, a file gives");
        assert_eq!(again, indexed);
        assert!(streamed == seeked, "the indexes differ");
    }
});
