//! Waiting for containers, and sizes of them: what commands ask about a container without changing it.

use std::str::FromStr;

use carrack_container::{Container, ContainerState, NetworkMode, Status};

use crate::error::OperationContext;
use crate::{Engine, Error, Result};

/// What `wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCondition {
    /// It has this status.
    Status(Status),
    /// It does not run, be it that it never has.
    NotRunning,
    /// It ends once more.
    NextExit,
    /// It is not there any more.
    Removed,
}

impl FromStr for WaitCondition {
    type Err = String;

    /// Docker's and podman's words.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "created" | "configured" => Ok(Self::Status(Status::Created)),
            "initialized" => Ok(Self::Status(Status::Initialized)),
            "running" => Ok(Self::Status(Status::Running)),
            "stopped" | "exited" => Ok(Self::Status(Status::Exited)),
            "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removing" => Ok(Self::Status(Status::Removing)),
            "removed" => Ok(Self::Removed),
            _ => Err("expected one of not-running, next-exit, created, initialized, running, stopped, exited, removing, removed".to_owned()),
        }
    }
}

impl WaitCondition {
    fn holds(self, state: &ContainerState, first: &ContainerState) -> bool {
        match self {
            Self::NotRunning => matches!(state.status, Status::Created | Status::Exited | Status::Removing),
            Self::NextExit => state.finished_at != first.finished_at,
            Self::Status(Status::Exited) => matches!(state.status, Status::Exited | Status::Removing),
            Self::Status(status) => state.status == status,
            Self::Removed => false,
        }
    }
}

impl Engine {
    /// Waits until one of the conditions holds, or until the container has ended where there are none. Returns its
    /// exit code; none while it has not ended.
    pub fn wait_for(&self, text: &str, conditions: &[WaitCondition]) -> Result<Option<i32>> {
        let container = self.containers.find(text)?;
        let (id, last) = (container.record.id, std::cell::Cell::new(container.state.exit_code));
        let first = container.state;
        let ended = [WaitCondition::NotRunning];
        let conditions = if conditions.is_empty() { &ended } else { conditions };
        let done = |state: &ContainerState| {
            last.set(state.exit_code.or(last.get()));
            conditions.iter().any(|condition| condition.holds(state, &first))
        };
        match self.containers.wait(&id, None, done) {
            // Docker: what never ran has not failed.
            Ok(state)
                if state.status == Status::Created && conditions.contains(&WaitCondition::NotRunning) =>
            {
                Ok(Some(state.exit_code.unwrap_or(0)))
            }
            Ok(state) => Ok(state.exit_code),
            Err(carrack_container::Error::NotFound { .. })
                if conditions.contains(&WaitCondition::Removed) =>
            {
                Ok(last.get())
            }
            Err(error) => Err(Error::from(error)).operation("wait for", text),
        }
    }

    /// Containers that cannot run without this one, newest first.
    pub fn dependents(&self, container: &Container) -> Result<Vec<Container>> {
        let mut others = self.containers.list()?;
        let needs = |other: &Container| matches!(&other.record.host.network.mode, NetworkMode::Container(id) if *id == container.record.id.to_string());
        others.retain(needs);
        Ok(others)
    }
}
