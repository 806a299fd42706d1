//! The bytes of a layer: the store may have it as the compressed blob that the manifest names, as the uncompressed tar
//! that its diff ID names, or both.

use std::io::Read;

use carrack_layer::compression;
use carrack_oci::{DiffId, Digest};
use carrack_sys::IoContext;

use crate::{Engine, Result};

impl Engine {
    /// Whether the store has a layer's bytes in one form or the other.
    pub(crate) fn has_layer(&self, digest: &Digest, diff_id: &DiffId) -> Result<bool> {
        Ok(self.content.size(digest)?.is_some() || self.content.size(&diff_id.0)?.is_some())
    }

    /// Opens the uncompressed tar of a layer; what a compressed blob yields is the reader's to verify.
    pub(crate) fn open_layer_tar(&self, digest: &Digest, diff_id: &DiffId) -> Result<Box<dyn Read + Send>> {
        if self.content.size(&diff_id.0)?.is_some() {
            return Ok(Box::new(self.content.open_blob(&diff_id.0)?));
        }
        let blob = self.content.open_blob(digest)?;
        let (_, tar) = compression::auto(blob).during("read", self.content.blob_path(digest))?;
        Ok(tar)
    }
}
