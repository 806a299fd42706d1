//! Logs: what a container has printed.

use std::io;

use carrack_container::log::{self, Entry, Selection};
use carrack_container::{Container, LogDriver};

use crate::error::OperationContext;
use crate::log_driver::entry_attributes;
use crate::{Engine, Error, Result};

impl Engine {
    /// Gives the entries of a container's log to `sink`, oldest first; with `follow` until the container has ended.
    pub fn logs(
        &self,
        text: &str,
        selection: &Selection,
        follow: bool,
        sink: &mut dyn FnMut(&Entry<'_>) -> io::Result<()>,
    ) -> Result<()> {
        let Container { record, .. } = self.containers.find(text)?;
        let id = &record.id;
        let is_running = || self.containers.get(id).is_ok_and(|container| container.state.status.is_active());
        let still_running: Option<&dyn Fn() -> bool> = if follow { Some(&is_running) } else { None };
        if record.host.lifecycle.log.driver == LogDriver::Journald {
            let attributes = entry_attributes(&record);
            return log::read_journal(id.as_str(), &attributes, selection, still_running, sink)
                .operation("read the log of", text);
        }
        let Some(path) = self.log_file(&record) else {
            return Err(no_file(record.host.lifecycle.log.driver)).operation("read the log of", text);
        };
        log::read(&path, selection, still_running, sink).operation("read the log of", text)
    }
}

/// Why there is nothing to read.
fn no_file(driver: LogDriver) -> Error {
    let message = format!("its log driver {} keeps nothing that carrack can read", driver.name());
    Error::refused(message, "create the container with --log-driver json-file")
}
