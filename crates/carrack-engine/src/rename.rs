//! Rename: another name for a container.

use carrack_container::ContainerName;

use crate::error::OperationContext;
use crate::{Engine, Result};

impl Engine {
    /// Gives the container that `text` names another name; after a crash it has the old or the new one.
    pub fn rename(&self, text: &str, name: &str) -> Result<()> {
        let name: ContainerName = name.parse().operation("rename container", text)?;
        let id = self.containers.find(text)?.record.id;
        let renamed = self.containers.lock(&id).and_then(|locked| locked.rename(&name));
        renamed.operation("rename container", text)
    }
}
