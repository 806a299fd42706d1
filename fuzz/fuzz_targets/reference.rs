//! Any text as a reference, digest, platform or location: an error, or what reads back the same.
#![no_main]

use carrack_image::transport::Location;
use carrack_oci::{Digest, Platform, Reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        let again: Reference = reference.to_string().parse().expect("the full form is a reference");
        assert_eq!(again, reference);
        let short: Reference = reference.familiar().parse().expect("the short form is a reference");
        assert_eq!(short.or_latest(), reference.or_latest());
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
        assert!(digest.hex().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    let _ = text.parse::<Platform>();
    let _ = text.parse::<Location>();
});
