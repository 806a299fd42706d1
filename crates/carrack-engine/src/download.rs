//! Downloads by URL, for `import` and `ADD`.

use std::io::Read;

use crate::error::OperationContext;
use crate::{Engine, Result};

impl Engine {
    /// Opens the file at an http or https URL.
    pub fn open_url(&self, url: &str) -> Result<Box<dyn Read + Send>> {
        self.registry_client()?.download(url).operation("download", url)
    }
}
