//! `kill`, `pause` and `resume`: what is done to the processes of a container.

use std::os::fd::AsFd;

use carrack_sys::IoContext;
use carrack_sys::process::send_signal;
use rustix::process::{PidfdFlags, Signal, pidfd_open};

use super::{Container, Status};
use crate::Result;

impl Container {
    /// Sends a signal (by number) to the first process.
    pub fn kill(&self, signal: i32) -> Result<()> {
        let Some(pidfd) = self.record.pidfd() else {
            // The text that containerd and podman look for.
            return Err(self.wrong_status("kill", "container not running"));
        };
        Ok(send_signal(pidfd.as_fd(), signal).during("send a signal to", self.title())?)
    }

    /// Sends a signal to all processes of the container, also after its first one has ended.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        let cgroup = self.record.cgroup()?;
        if signal == Signal::KILL.as_raw() {
            return cgroup.kill();
        }
        for pid in cgroup.processes()? {
            // One that ended since it was read is no error.
            if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
                let _ = send_signal(pidfd.as_fd(), signal);
            }
        }
        Ok(())
    }

    /// Lets all processes stand still.
    pub fn pause(&mut self) -> Result<()> {
        let _lock = self.lock()?;
        match self.status()? {
            Status::Created | Status::Running => self.record.cgroup()?.freeze(),
            status => Err(self.wrong_status("pause", format!("expected it to run, it is {}", status.name()))),
        }
    }

    /// Lets all processes go on.
    pub fn resume(&mut self) -> Result<()> {
        let _lock = self.lock()?;
        match self.status()? {
            Status::Paused => self.record.cgroup()?.thaw(),
            status => {
                Err(self.wrong_status("resume", format!("expected it to be paused, it is {}", status.name())))
            }
        }
    }

    /// The pids of its processes, as the host sees them.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let pids = self.record.cgroup()?.processes()?;
        Ok(pids.into_iter().map(|pid| pid.as_raw_pid()).collect())
    }

    fn title(&self) -> String {
        format!("the container {}", self.record.id)
    }
}
