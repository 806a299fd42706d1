//! Any text as a Dockerfile: an error that knows its place, or instructions.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = carrack_dockerfile::parse(text);
});
