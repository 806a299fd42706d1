//! Restart policies: the pause between two runs, the turn of the next one, and what is started with the host.
//!
//! The monitor of a container is what starts it again; nothing else needs to run for it.

use std::time::Duration;

use carrack_container::{Container, ContainerId, ContainerState, RestartPolicy, Status, StopRequest};

use crate::error::OperationContext;
use crate::stop::{Patience, StopWish};
use crate::{Engine, Error, Result};

/// The pause before the first restart, which doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// A program that has run for so long did not fail at its start: the pauses begin anew.
const STEADY: Duration = Duration::from_secs(10);

/// The pauses of a container that ends again and again.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The pause after a run that lasted so long.
    pub(crate) fn after(&mut self, run: Duration) -> Duration {
        let pause = match self.last {
            Some(last) if run < STEADY => (last * 2).min(LAST_PAUSE),
            _ => FIRST_PAUSE,
        };
        self.last = Some(pause);
        pause
    }
}

impl Engine {
    /// Waits for the pause before a restart; whether the container is to be started then, which its state says too.
    pub(crate) fn await_turn(&self, id: &ContainerId, pause: Duration) -> Result<bool> {
        self.containers.wait(id, Some(pause), |state| state.stop_requested.is_some())?;
        let state = self.containers.update(id, |state| match state.stop_requested {
            Some(_) => state.stay_stopped(),
            None => state.restart(),
        })?;
        Ok(state.status == Status::Creating)
    }

    /// Gives a container another restart policy, which holds from its next end on.
    pub(crate) fn set_restart_policy(&self, text: &str, policy: RestartPolicy) -> Result<()> {
        let container = self.containers.find(text)?;
        refuse_with_removal(policy, container.record.host.auto_remove).operation("update", text)?;
        let locked = self.containers.lock(&container.record.id).operation("update", text)?;
        locked.change_record(|record| record.host.lifecycle.restart = policy).operation("update", text)?;
        Ok(())
    }

    /// Starts the containers that their policies want to run with the host, oldest first; each result is told to
    /// `report`.
    pub fn start_by_policy(&self, report: &mut dyn FnMut(&Container, Result<()>)) -> Result<()> {
        for container in self.recover()?.iter().rev() {
            if starts_with_host(container) {
                report(container, self.start(&container.record.id).map(drop));
            }
        }
        Ok(())
    }

    /// Stops every container that runs, as the host goes down: their policies start them again with the host.
    pub fn stop_for_host(
        &self,
        timeout: Option<Duration>,
        report: &mut dyn FnMut(&Container, Result<()>),
    ) -> Result<()> {
        let running: Vec<_> =
            self.recover()?.into_iter().filter(|container| container.state.status.is_active()).collect();
        let wish = StopWish { patience: timeout.map(Patience::Limited), ..StopWish::default() };
        let stop = |container: &Container| {
            let stopped = self.stop_requested(container, &wish, StopRequest::Host);
            stopped.operation("stop", &container.record.name)
        };
        // At once: each may take its whole timeout.
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                running.iter().map(|container| (container, scope.spawn(|| stop(container)))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(|(container, thread)| (container, join(thread))).collect()
        });
        results.into_iter().for_each(|(container, result)| report(container, result));
        Ok(())
    }
}

fn starts_with_host(container: &Container) -> bool {
    let ContainerState { status, exit_code, stop_requested, .. } = container.state;
    let policy = container.record.host.lifecycle.restart;
    status == Status::Exited && policy.starts_with_host(exit_code.unwrap_or(0), stop_requested)
}

/// A container that is removed when it ends cannot be started again.
pub(crate) fn refuse_with_removal(policy: RestartPolicy, auto_remove: bool) -> Result<()> {
    match policy != RestartPolicy::No && auto_remove {
        true => Err(Error::refused(
            format!("conflicting options: the restart policy {policy} and --rm"),
            "leave out one of them",
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_steady_run() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..12).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(pauses[..5], [100, 200, 400, 800, 1600]);
        assert_eq!(pauses[9..], [51_200, 60_000, 60_000]);
        assert_eq!(backoff.after(STEADY).as_millis(), 100);
        assert_eq!(backoff.after(Duration::ZERO).as_millis(), 200);
    }
}
