//! `start`: the program of a container that waits is executed.

use std::os::fd::AsFd;

use carrack_sys::atomic;
use carrack_sys::process::send_signal;
use rustix::process::Pid;

use super::bundle::read_spec;
use super::{Container, Status};
use crate::hooks::{Kind, PlannedHooks};
use crate::seccomp::agent::Agent;
use crate::standby::{SOCKET, start_standing};
use crate::{Result, launch};

impl Container {
    /// Executes the program; returns when it runs, or with the reason why it does not.
    ///
    /// A container whose program or whose hooks cannot be run is stopped (runtime.md, "Lifecycle", steps 7 and 9).
    pub fn start(&mut self) -> Result<()> {
        let _lock = self.lock()?;
        let status = self.status()?;
        if status != Status::Created {
            let reason = format!("expected the status created, got {}", status.name());
            return Err(self.wrong_status("start", reason));
        }
        let spec = read_spec(&self.folder.join("config.json"))?;
        let socket = self.folder.join(SOCKET);
        let mut forgotten = Ok(());
        let mut agent = Agent::connect(launch::seccomp(&spec), &self.record.state(Status::Created))?;
        let started = start_standing(
            &self.folder,
            || forgotten = atomic::remove_file(&socket),
            |listener| self.hand_over(agent.as_mut(), listener),
        );
        started.and(forgotten.map_err(Into::into))?;
        let hooks = spec.hooks().clone().unwrap_or_default();
        let state = self.record.state(Status::Running);
        let run = PlannedHooks::new(Kind::Poststart, &hooks, &state).run();
        if run.is_err()
            && let Some(pidfd) = self.record.pidfd()
        {
            let _ = send_signal(pidfd.as_fd(), rustix::process::Signal::KILL.as_raw());
        }
        run
    }

    fn hand_over(&self, agent: Option<&mut Agent>, listener: i32) -> Result<()> {
        let pid = self.record.process.and_then(|(pid, _)| Pid::from_raw(pid));
        let (Some(agent), Some(pid), Some(pidfd)) = (agent, pid, self.record.pidfd()) else { return Ok(()) };
        agent.hand_over(pid, pidfd.as_fd(), listener)
    }
}
