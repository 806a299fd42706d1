//! Processes as records name them: a pid is believed only together with its start time and the boot.
//!
//! Invariant: no signal can reach a process that merely inherited the number.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;

use carrack_sys::IoContext;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::{Result, small_file};

/// A process that may have ended since this was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The number, in the namespace of the host.
    pub pid: i32,
    /// Clock ticks between boot and the start of the process (`/proc/PID/stat`, field 22).
    pub start_time_ticks: u64,
    /// The boot in which the process lives.
    pub boot_id: String,
}

impl ProcessId {
    /// The process that has the number `pid` now; it must not end before this returns (a child that is not reaped).
    pub fn of(pid: i32) -> Result<Self> {
        let path = stat_path(pid);
        let stat = fs::read_to_string(&path).during("read", &path)?;
        let (_, start_time_ticks) =
            parse_stat(&stat).ok_or(std::io::ErrorKind::InvalidData).during("read", &path)?;
        Ok(Self { pid, start_time_ticks, boot_id: boot_id()?.to_owned() })
    }

    /// This process.
    pub fn current() -> Result<Self> {
        Self::of(i32::try_from(std::process::id()).expect("a pid fits"))
    }

    /// Whether the process still runs; one that has ended and is not reaped does not.
    pub fn is_alive(&self) -> bool {
        boot_id().is_ok_and(|boot_id| boot_id == self.boot_id)
            && read_stat(self.pid)
                .ok()
                .flatten()
                .is_some_and(|(state, start)| start == self.start_time_ticks && !matches!(state, 'Z' | 'X'))
    }

    /// A pidfd of the process; `None` when it has ended. Signals sent through it reach this process or nobody.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            // The pidfd holds on to the process, so the check cannot be overtaken by a reuse of the number.
            Ok(pidfd) => Ok(self.is_alive().then_some(pidfd)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error).during("open process", self.pid.to_string())?,
        }
    }
}

fn stat_path(pid: i32) -> String {
    format!("/proc/{pid}/stat")
}

/// State and start time; `None` when there is no such process.
fn read_stat(pid: i32) -> Result<Option<(char, u64)>> {
    let parse = |stat: &[u8]| parse_stat(&String::from_utf8_lossy(stat));
    Ok(small_file::read_with(Path::new(&stat_path(pid)), parse)?.flatten())
}

/// State and start time. The second field is the program's name in brackets and may contain anything, so fields are
/// counted from the last bracket.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((state, start_time))
}

/// The kernel's random id of this boot.
fn boot_id() -> Result<&'static str> {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    if let Some(known) = BOOT_ID.get() {
        return Ok(known);
    }
    let text = fs::read_to_string(PATH).during("read", PATH)?;
    Ok(BOOT_ID.get_or_init(|| text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_program_name_does_not_shift_the_fields() {
        let stat = "7 (a) Z 1 (x) S 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(parse_stat(stat), Some(('S', 4242)));
    }

    #[test]
    fn this_process_is_alive_and_its_number_alone_is_not_believed() {
        let current = ProcessId::current().unwrap();
        assert!(current.is_alive());
        assert!(current.open().unwrap().is_some());
        let reused = ProcessId { start_time_ticks: current.start_time_ticks + 1, ..current.clone() };
        let rebooted = ProcessId { boot_id: "another".into(), ..current };
        for stranger in [reused, rebooted] {
            assert!(!stranger.is_alive());
            assert!(stranger.open().unwrap().is_none());
        }
    }

    #[test]
    fn a_zombie_is_dead() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while process.is_alive() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(!process.is_alive(), "it has ended, though nobody has reaped it");
        child.wait().unwrap();
    }
}
