//! Which extended attributes a layer may carry, and the one that overlayfs gives a meaning.
//!
//! Invariant: no attribute that steers overlayfs, integrity measurement or mandatory access control of the host passes
//! in either direction. As the Docker family does, a layer keeps `security.capability` and `user.*`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use carrack_sys::rooted::Place;

/// Marks a folder that hides the folders of lower layers (value `y`).
pub const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// Attributes that would make an upper folder mean more than the files it holds.
const UNSUPPORTED: [&str; 2] = ["trusted.overlay.redirect", "trusted.overlay.metacopy"];

/// Whether an attribute passes from a layer to a file system and back.
pub fn is_layer_xattr(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Whether an attribute means that the file's content or place is somewhere else.
pub(crate) fn is_unsupported(name: &OsStr) -> bool {
    UNSUPPORTED.iter().any(|unsupported| name == OsStr::new(unsupported))
}

/// Whether a folder hides the folders of lower layers.
pub fn is_opaque(place: &Place<'_>) -> carrack_sys::Result<bool> {
    Ok(place.xattr(OsStr::new(OPAQUE_XATTR))?.as_deref() == Some(b"y"))
}
