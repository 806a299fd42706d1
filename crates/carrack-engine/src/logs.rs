//! Logs: what a container has printed.

use std::io;

use carrack_container::log::{self, Entry, Selection};
use carrack_container::{Container, LogDriver};

use crate::error::OperationContext;
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
        let Some(path) = self.log_file(&record) else {
            return Err(no_file(record.host.lifecycle.log.driver, id.as_str()))
                .operation("read the log of", text);
        };
        let is_running = || self.containers.get(id).is_ok_and(|container| container.state.status.is_active());
        let still_running: Option<&dyn Fn() -> bool> = if follow { Some(&is_running) } else { None };
        log::read(&path, selection, still_running, sink).operation("read the log of", text)
    }
}

/// Why there is nothing to read.
fn no_file(driver: LogDriver, id: &str) -> Error {
    let message = format!("its log driver {} keeps nothing that carrack can read", driver.name());
    match driver {
        LogDriver::Journald => {
            Error::refused(message, format!("ask the journal: journalctl CONTAINER_ID_FULL={id}"))
        }
        _ => Error::refused(message, "create the container with --log-driver json-file"),
    }
}
