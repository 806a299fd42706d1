//! Logs: what a container has printed.

use std::io;

use carrack_container::log::{self, Entry, Selection};

use crate::error::OperationContext;
use crate::{Engine, Result};

impl Engine {
    /// Gives the entries of a container's log to `sink`, oldest first; with `follow` until the container has ended.
    pub fn logs(
        &self,
        text: &str,
        selection: &Selection,
        follow: bool,
        sink: &mut dyn FnMut(&Entry<'_>) -> io::Result<()>,
    ) -> Result<()> {
        let id = self.containers.find(text)?.record.id;
        let is_running =
            || self.containers.get(&id).is_ok_and(|container| container.state.status.is_active());
        let still_running: Option<&dyn Fn() -> bool> = if follow { Some(&is_running) } else { None };
        log::read(&self.containers.log_path(&id), selection, still_running, sink)
            .operation("read the log of", text)
    }
}
