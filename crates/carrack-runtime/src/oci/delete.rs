//! `delete`: all that `create` made is undone, from the record.

use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use carrack_sys::IoContext;
use carrack_sys::process::send_signal;
use oci_spec::runtime::Spec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::bundle::read_spec;
use super::{Container, Runtime, Status};
use crate::Result;
use crate::hooks::{Kind, PlannedHooks};

/// A process that hangs in the kernel does not end when it is killed.
const LIMIT: Duration = Duration::from_secs(10);

impl Container {
    /// Deletes a container that has stopped, or with `force` any; its hooks are run last.
    pub fn delete(mut self, force: bool) -> Result<()> {
        let _lock = self.lock()?;
        let status = self.status()?;
        if status != Status::Stopped && !force {
            let reason = format!("expected the status stopped, got {}", status.name());
            return Err(self.wrong_status("delete", reason));
        }
        // A crash may have come before the spec was written; then there were no hooks and no cgroup either.
        let spec = read_spec(&self.folder.join("config.json")).unwrap_or_default();
        self.destroy(&spec)
    }

    /// Whether another container has taken the cgroup since this one stopped: it is not this one's to delete then.
    fn shares_cgroup(&self) -> Result<bool> {
        let all = self.folder.parent().map(|folder| Runtime::new(folder.to_owned()));
        let others = all.map_or(Ok(Vec::new()), |all| all.list())?;
        let place = self.record.details.cgroup_place();
        Ok(others.iter().any(|other| {
            other.record.id != self.record.id
                && other.record.details.cgroup_place() == place
                && other.status().is_ok_and(|status| status != Status::Stopped)
        }))
    }

    /// Ends and removes what there is of it, at whatever point it came to be.
    pub(super) fn destroy(&self, spec: &Spec) -> Result<()> {
        let cgroup = self.record.cgroup()?;
        if let Some(pidfd) = self.record.pidfd() {
            let _ = send_signal(pidfd.as_fd(), Signal::KILL.as_raw());
            let _ = cgroup.thaw();
            let limit = Timespec::try_from(LIMIT).ok();
            let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], limit.as_ref());
        }
        if !self.shares_cgroup()? {
            // Those that a container without a pid namespace has left.
            cgroup.kill()?;
            cgroup.delete()?;
        }
        fs::remove_dir_all(&self.folder).during("remove the folder", &self.folder)?;
        let hooks = spec.hooks().clone().unwrap_or_default();
        PlannedHooks::new(Kind::Poststop, &hooks, &self.record.state(Status::Stopped)).run_all();
        Ok(())
    }
}
