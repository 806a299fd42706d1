//! The network of containers: which bridge, where its leases are, what a container has of it.

use std::path::PathBuf;

use carrack_container::{Container, ContainerId, PortBinding};
use carrack_network::{Attachment, Bridge, InterfaceName};

use crate::{Engine, Result};

impl Engine {
    pub(crate) fn bridge(&self) -> Result<Bridge> {
        let settings = &self.environment.settings.network;
        let name = InterfaceName::new(settings.bridge.clone())?;
        Ok(Bridge { name, subnet: settings.subnet.parse()?, ..Bridge::standard()? })
    }

    pub(crate) fn network_state(&self) -> PathBuf {
        self.environment.paths.runroot.join("network")
    }

    pub(crate) fn attachment(&self, id: &ContainerId) -> Result<Option<Attachment>> {
        Ok(carrack_network::find(&self.network_state(), &self.bridge()?.name, id.as_str())?)
    }

    /// The ports that a container serves now, with those that were chosen for it.
    pub fn published_ports(&self, container: &Container) -> Result<Vec<PortBinding>> {
        if container.record.host.network.ports.is_empty() || !container.state.status.is_active() {
            return Ok(Vec::new());
        }
        let attachment = self.attachment(&container.record.id)?;
        Ok(attachment.as_ref().map_or_else(Vec::new, crate::ports::published))
    }
}
