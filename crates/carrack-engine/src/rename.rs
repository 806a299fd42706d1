//! Rename: another name for a container.

use carrack_container::{Container, ContainerName};

use crate::error::OperationContext;
use crate::{Engine, Result};

impl Engine {
    /// Gives the container that `text` names another name; after a crash it has the old or the new one.
    pub fn rename(&self, text: &str, name: &str) -> Result<()> {
        let name: ContainerName = name.parse().operation("rename container", text)?;
        let Container { mut record, .. } = self.containers.find(text)?;
        let renamed = self.containers.lock(&record.id).and_then(|locked| locked.rename(&name));
        renamed.operation("rename container", text)?;
        let old = std::mem::replace(&mut record.name, name);
        self.container_event(&record, "rename", &[("oldName", old.to_string())]);
        Ok(())
    }
}
