//! The state of a container, its state machine, and what it has announced to do to the kernel.
//!
//! Invariant: the status changes only along the arrows below, and an effect is in the list from before it is made
//! until after it is undone.
//!
//! ```text
//!            start               run               exit
//! created ----------> creating ----------> running -----> exited
//!    ^  ^              ^| |^                 |              ^ |
//!    |  +---- fail -----+  |                 |              | start: exited -> creating
//!    |                     +-- restart -- restarting --stop-+
//!    |
//! creating -- initialize --> initialized -- proceed --> creating, and initialized -- exit --> exited
//! running -- pause --> paused -- unpause --> running, and paused -- exit --> exited
//!
//! created | exited -- remove --> removing   (and from removing again: a removal that was cut short)
//! ```
//!
//! A container whose monitor is gone without a report is `exited` and [`lost`](ContainerState::lost); one that was only
//! initialized has not run, and is `created` again.

use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::health::Health;
use crate::{Error, OtherRuntime, ProcessId, Result};

/// The exit code of a container that nobody saw exit.
const LOST_EXIT_CODE: i32 = 255;

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Never started, or never successfully.
    #[default]
    Created,
    /// Its monitor is setting it up.
    Creating,
    /// All is set up, and its program waits to be started.
    Initialized,
    /// Its program runs.
    Running,
    /// Its program is there and stands still.
    Paused,
    /// Its program has ended, and its monitor waits to start it again.
    Restarting,
    /// Its program has ended.
    Exited,
    /// It is being removed.
    Removing,
}

impl Status {
    /// Whether a monitor stays with the container.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Creating | Self::Initialized | Self::Running | Self::Paused | Self::Restarting)
    }

    /// Whether a first process is there, whether it has become the program or not.
    pub fn has_process(self) -> bool {
        self.is_running() || self == Self::Initialized
    }

    /// Whether the program is there, at work or paused.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Created => "created",
            Self::Creating => "creating",
            Self::Initialized => "initialized",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
        })
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// It returned this code, 0 to 255.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// The one number that users see: the code, or 128 + the signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// Who has asked a container to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopRequest {
    /// A user: its restart policy leaves it alone.
    User,
    /// Whoever shuts the host down: it is started again with the host.
    Host,
}

/// Something outside the store that a start makes and an end undoes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// The cgroup of the container.
    Cgroup {
        /// Its path within each hierarchy.
        path: String,
    },
    /// The scope in which systemd has made its cgroup.
    Scope {
        /// The slice that it is in.
        slice: String,
        /// The unit.
        unit: String,
    },
    /// Its place in a network: announced with what identifies it, and once more with all that its undoing takes.
    Network {
        /// As the network crate writes it.
        attachment: serde_json::Value,
    },
    /// The data of its secrets, in files and in the spec that it is started from.
    Secrets {
        /// The folder of both.
        folder: PathBuf,
    },
    /// What its `poststop` hooks clean up, which run when all else is undone.
    Hooks {
        /// The container's id.
        id: String,
        /// The folder of the `config.json` that says which they are.
        bundle: PathBuf,
    },
    /// What another OCI runtime knows of it.
    Runtime {
        /// The runtime.
        runtime: OtherRuntime,
        /// The container's id there.
        id: String,
        /// The folder of its state.
        state: PathBuf,
    },
    /// Its active snapshot.
    Snapshot {
        /// The key.
        key: String,
    },
}

/// What happened to a container. Not synced: a reboot may take it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// Where it is in its life.
    pub status: Status,
    /// The process that watches over it.
    pub monitor: Option<ProcessId>,
    /// Its first process. May outlive a lost monitor: kill it through [`ProcessId::open`].
    pub init: Option<ProcessId>,
    /// When it last began to run.
    pub started_at: Option<Timestamp>,
    /// When it last ended.
    pub finished_at: Option<Timestamp>,
    /// How it last ended, as one number; also of a start that failed (126, 127).
    pub exit_code: Option<i32>,
    /// Whether the kernel killed it for memory.
    pub oom_killed: bool,
    /// Why it could not start, or was lost.
    pub error: Option<String>,
    /// Whether nobody saw its end: the monitor was killed or the host went down.
    pub lost: bool,
    /// How often its restart policy has started it since a user did.
    pub restart_count: u32,
    /// Who has asked it to end since it was started, if anybody has: then its monitor does not start it again.
    pub stop_requested: Option<StopRequest>,
    /// Whether it is to be started again when it has ended, whatever its restart policy says.
    pub restart_requested: bool,
    /// What its health checks say, where it has any.
    pub health: Option<Health>,
    /// What is to be undone, oldest first.
    pub effects: Vec<Effect>,
}

impl ContainerState {
    /// Begins a start under `monitor`; the caller announces effects in the same update.
    pub fn start(&mut self, monitor: ProcessId) -> Result<()> {
        self.expect("start", &[Status::Created, Status::Exited])?;
        if let Some(init) = self.init.as_ref().filter(|init| init.is_alive()) {
            return Err(Error::StillAlive { pid: init.pid });
        }
        *self = Self {
            status: Status::Creating,
            monitor: Some(monitor),
            finished_at: self.finished_at,
            effects: std::mem::take(&mut self.effects),
            ..Self::default()
        };
        Ok(())
    }

    /// All is set up, and `init` waits to become the program.
    pub fn initialize(&mut self, init: ProcessId) -> Result<()> {
        self.expect("initialize", &[Status::Creating])?;
        (self.status, self.init) = (Status::Initialized, Some(init));
        Ok(())
    }

    /// What was initialized is to run.
    pub fn proceed(&mut self) -> Result<()> {
        self.expect("start", &[Status::Initialized])?;
        self.status = Status::Creating;
        Ok(())
    }

    /// The program runs as `init`.
    pub fn run(&mut self, init: ProcessId) -> Result<()> {
        self.expect("run", &[Status::Creating])?;
        self.status = Status::Running;
        self.init = Some(init);
        self.started_at = Some(Timestamp::now());
        Ok(())
    }

    /// The start failed, with the exit code that the user gets (125, 126, 127).
    pub fn fail(&mut self, error: String, exit_code: i32) -> Result<()> {
        self.expect("fail", &[Status::Creating])?;
        self.status = Status::Created;
        (self.monitor, self.init) = (None, None);
        (self.error, self.exit_code) = (Some(error), Some(exit_code));
        Ok(())
    }

    /// The program stands still.
    pub fn pause(&mut self) -> Result<()> {
        self.expect("pause", &[Status::Running])?;
        self.status = Status::Paused;
        Ok(())
    }

    /// The program goes on.
    pub fn unpause(&mut self) -> Result<()> {
        self.expect("unpause", &[Status::Paused])?;
        self.status = Status::Running;
        Ok(())
    }

    /// The program has ended, and its restart policy wants it to run again: the monitor stays.
    pub fn await_restart(&mut self, exit: Exit, oom_killed: bool) -> Result<()> {
        let monitor = self.monitor.clone();
        self.exit(exit, oom_killed)?;
        (self.status, self.monitor) = (Status::Restarting, monitor);
        Ok(())
    }

    /// The monitor starts the program once more.
    pub fn restart(&mut self) -> Result<()> {
        self.expect("restart", &[Status::Restarting])?;
        self.status = Status::Creating;
        self.restart_count += 1;
        self.restart_requested = false;
        self.health = None;
        Ok(())
    }

    /// The restart is not wanted any more.
    pub fn stay_stopped(&mut self) -> Result<()> {
        self.expect("leave", &[Status::Restarting])?;
        (self.status, self.monitor) = (Status::Exited, None);
        Ok(())
    }

    /// The start by the restart policy failed; unlike after [`fail`](Self::fail), the container has run before.
    pub fn fail_restart(&mut self, error: String, exit_code: i32) -> Result<()> {
        self.fail(error, exit_code)?;
        self.status = Status::Exited;
        self.finished_at = Some(Timestamp::now());
        Ok(())
    }

    /// The program has ended.
    pub fn exit(&mut self, exit: Exit, oom_killed: bool) -> Result<()> {
        self.expect("end", &[Status::Initialized, Status::Running, Status::Paused])?;
        self.status = Status::Exited;
        (self.monitor, self.init) = (None, None);
        self.finished_at = Some(Timestamp::now());
        self.exit_code = Some(exit.code());
        self.oom_killed = oom_killed;
        Ok(())
    }

    /// Begins the removal; what is in [`effects`](Self::effects) is to be undone before the container is deleted.
    pub fn remove(&mut self) -> Result<()> {
        self.expect("remove", &[Status::Created, Status::Exited, Status::Removing])?;
        self.status = Status::Removing;
        Ok(())
    }

    /// Says what will be done next; it replaces an earlier announcement of the same kind.
    pub fn announce(&mut self, effect: Effect) {
        let same_kind =
            |known: &&mut Effect| std::mem::discriminant::<Effect>(known) == std::mem::discriminant(&effect);
        match self.effects.iter_mut().find(same_kind) {
            Some(known) => *known = effect,
            // The oldest is undone last.
            None if matches!(effect, Effect::Hooks { .. }) => self.effects.insert(0, effect),
            None => self.effects.push(effect),
        }
    }

    /// Takes an effect that has been undone off the list.
    pub fn undone(&mut self, effect: &Effect) {
        self.effects.retain(|known| known != effect);
    }

    /// The state of a container that was active when its run state was lost.
    pub(crate) fn lost(error: &str) -> Self {
        Self { lost: true, status: Status::Exited, exit_code: Some(LOST_EXIT_CODE), ..Self::default() }
            .with_error(error)
    }

    /// The state as it is now: an active container whose monitor is gone has exited.
    pub(crate) fn observed(mut self) -> Self {
        let watched = self.monitor.as_ref().is_some_and(ProcessId::is_alive);
        if self.status == Status::Initialized && !watched {
            (self.status, self.monitor) = (Status::Created, None);
            return self;
        }
        if self.status.is_active() && !watched {
            self.status = Status::Exited;
            self.lost = true;
            self.monitor = None;
            self.exit_code = Some(LOST_EXIT_CODE);
            return self.with_error("its monitor ended without a report");
        }
        self
    }

    fn with_error(mut self, error: &str) -> Self {
        self.error = Some(error.to_owned());
        self
    }

    fn expect(&self, action: &'static str, allowed: &[Status]) -> Result<()> {
        match allowed.contains(&self.status) {
            true => Ok(()),
            false => Err(Error::Transition { action, status: self.status }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> ProcessId {
        ProcessId::current().unwrap()
    }

    #[test]
    fn a_life_along_the_arrows() {
        let mut state = ContainerState::default();
        state.start(here()).unwrap();
        state.run(here()).unwrap();
        assert_eq!(state.clone().observed(), state, "its monitor is alive");
        state.exit(Exit::Signal(9), true).unwrap();
        assert_eq!((state.exit_code, state.oom_killed), (Some(137), true));
        state.start(here()).unwrap();
        assert_eq!((state.exit_code, state.oom_killed, state.started_at), (None, false, None));
        state.fail("no such program".into(), 127).unwrap();
        assert_eq!((state.status, state.exit_code), (Status::Created, Some(127)));
        state.remove().unwrap();
        state.remove().unwrap();
    }

    #[test]
    fn refuses_every_other_step() {
        let mut state = ContainerState::default();
        assert!(state.run(here()).is_err());
        assert!(state.exit(Exit::Code(0), false).is_err());
        state.start(here()).unwrap();
        assert!(state.start(here()).is_err());
        assert!(state.remove().is_err(), "somebody is making it");
        state.run(here()).unwrap();
        let error = state.remove().unwrap_err();
        assert_eq!(error.to_string(), "cannot remove a container that is running");
    }

    #[test]
    fn a_paused_program_goes_on_or_ends() {
        let mut state = ContainerState::default();
        assert!(state.pause().is_err());
        state.start(here()).unwrap();
        state.run(here()).unwrap();
        assert!(state.unpause().is_err());
        state.pause().unwrap();
        assert!(state.pause().is_err() && state.remove().is_err() && state.start(here()).is_err());
        assert!(state.status.is_active() && state.status.is_running());
        state.unpause().unwrap();
        state.pause().unwrap();
        state.exit(Exit::Signal(9), false).unwrap();
    }

    #[test]
    fn what_is_initialized_runs_or_ends_or_has_never_been() {
        let mut state = ContainerState::default();
        assert!(state.initialize(here()).is_err() && state.proceed().is_err());
        state.start(here()).unwrap();
        state.initialize(here()).unwrap();
        assert_eq!(state.clone().observed(), state, "its monitor is alive");
        assert!(state.status.is_active() && state.status.has_process() && !state.status.is_running());
        assert!(state.clone().pause().is_err() && state.clone().remove().is_err());
        let lost = ContainerState { monitor: None, ..state.clone() }.observed();
        assert_eq!((lost.status, lost.lost, lost.exit_code), (Status::Created, false, None));
        let mut killed = state.clone();
        killed.exit(Exit::Signal(9), false).unwrap();
        assert_eq!((killed.status, killed.exit_code), (Status::Exited, Some(137)));
        state.proceed().unwrap();
        state.run(here()).unwrap();
        assert_eq!(state.status, Status::Running);
    }

    #[test]
    fn a_restart_keeps_its_monitor_and_counts() {
        let mut state = ContainerState::default();
        state.start(here()).unwrap();
        state.run(here()).unwrap();
        state.await_restart(Exit::Code(3), false).unwrap();
        assert_eq!((state.status, state.exit_code), (Status::Restarting, Some(3)));
        assert_eq!(state.clone().observed(), state, "its monitor is alive");
        state.restart().unwrap();
        state.run(here()).unwrap();
        assert_eq!(state.restart_count, 1);
        state.await_restart(Exit::Code(0), false).unwrap();
        assert!(state.clone().remove().is_err());
        state.stay_stopped().unwrap();
        state.start(here()).unwrap();
        assert_eq!(state.restart_count, 0, "a user has started it");
    }

    #[test]
    fn a_dead_monitor_is_an_exit_that_keeps_what_is_to_be_undone() {
        let mut state = ContainerState::default();
        let dead = ProcessId { start_time_ticks: 1, ..here() };
        state.start(dead.clone()).unwrap();
        state.announce(Effect::Cgroup { path: "/a".into() });
        state.run(dead.clone()).unwrap();
        let state = state.observed();
        assert_eq!((state.status, state.lost, state.exit_code), (Status::Exited, true, Some(255)));
        assert_eq!(state.init, Some(dead), "it may have outlived its monitor");
        assert_eq!(state.effects.len(), 1);
        let survived = ContainerState { init: Some(here()), ..state.clone() };
        assert!(matches!(survived.clone().start(here()), Err(Error::StillAlive { .. })));
        assert!(state.clone().start(here()).is_ok());
    }

    #[test]
    fn an_announcement_grows_and_goes() {
        let mut state = ContainerState::default();
        state.announce(Effect::Network { attachment: "asked".into() });
        state.announce(Effect::Cgroup { path: "/a".into() });
        let made = Effect::Network { attachment: "made".into() };
        state.announce(made.clone());
        assert_eq!(state.effects, [made.clone(), Effect::Cgroup { path: "/a".into() }]);
        state.undone(&made);
        assert_eq!(state.effects.len(), 1);
        state.announce(Effect::Hooks { id: "a".into(), bundle: "/b".into() });
        assert!(matches!(state.effects[0], Effect::Hooks { .. }), "undone last");
    }
}
