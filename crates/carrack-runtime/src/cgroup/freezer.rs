//! Stopping all processes of a cgroup for a while: `cgroup.freeze` of v2, the freezer hierarchy of v1.
//!
//! Invariant: after [`Cgroup::freeze`] has returned, no process of the cgroup runs until it is thawed.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Cgroup, read, write};
use crate::{Error, Result};

/// A process in an uninterruptible wait (a dead network disk) cannot be frozen.
const LIMIT: Duration = Duration::from_secs(10);

impl Cgroup {
    /// Stops all processes, and returns when they stand still; when they do not, they go on.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true)?;
        let deadline = Instant::now() + LIMIT;
        let mut pause = Duration::from_micros(100);
        while !self.is_frozen()? {
            if Instant::now() >= deadline {
                self.thaw()?;
                return Err(Error::spec(
                    "cannot freeze: a process does not stand still, it hangs in the kernel",
                ));
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Lets all processes go on; none stands still in a cgroup that is gone.
    pub fn thaw(&self) -> Result<()> {
        match self.set_frozen(false) {
            Err(Error::Sys(error)) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        match (&self.v2, self.freezer()) {
            (Some(folder), _) => write(folder, "cgroup.freeze", if frozen { "1" } else { "0" }),
            (None, Some(folder)) => write(folder, "freezer.state", if frozen { "FROZEN" } else { "THAWED" }),
            (None, None) => Err(Error::spec("cannot freeze: expected a freezer cgroup, got none")),
        }
    }

    pub(crate) fn is_frozen(&self) -> Result<bool> {
        let (folder, file, wanted) = match (&self.v2, self.freezer()) {
            (Some(folder), _) => (folder.as_path(), "cgroup.events", "frozen 1"),
            (None, Some(folder)) => (folder, "freezer.state", "FROZEN"),
            (None, None) => return Ok(false),
        };
        Ok(read(folder, file)?.is_some_and(|text| text.lines().any(|line| line == wanted)))
    }

    fn freezer(&self) -> Option<&Path> {
        let hierarchy = self.v1.iter().find(|hierarchy| hierarchy.has("freezer"))?;
        Some(&hierarchy.folder)
    }
}
