//! The monitor stage: starts a container, stays with it, takes it down when it has ended, and starts it again where its
//! restart policy says so.
//!
//! Invariant: whatever ends the monitor, what is to be undone is in the container's state for the next command.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use carrack_container::attach::{Event, Listener, Peer};
use carrack_container::health::{CheckLog, Health};
use carrack_container::log::LogSink;
use carrack_container::monitor::Monitor;
use carrack_container::{
    Container, ContainerId, ContainerRecord, ContainerState, Effect, Exit, LogDriver, ProcessId, Status,
};
use carrack_runtime::Running;
use carrack_runtime::cgroup::Cgroup;
use carrack_snapshot::{Holds, Mount, Opening};
use carrack_sys::IoContext;
use carrack_sys::atomic::{self, Durability};

use crate::restart::Backoff;
use crate::sandbox::{Sandbox, SandboxPlan};
use crate::spec::SPEC_FILE;
use crate::stage::report_failure;
use crate::{Engine, Error, Result, limits, selinux, signal};

/// How long the command that started a stage may take to read its report.
pub(crate) const REPORT_LIMIT: Duration = Duration::from_secs(10);

/// A container that is set up up to the moment before its program is executed.
pub(crate) struct Prepared {
    pub record: Box<ContainerRecord>,
    pub sandbox: Sandbox,
    pub listener: Listener,
    pub log: Option<LogSink>,
    /// What it is mounted on; other containers of the image share it.
    pub holds: Holds,
}

/// A container that runs, and what stays with it.
pub(crate) struct Started {
    record: Box<ContainerRecord>,
    monitor: Monitor,
    running: Running,
    cgroup: Option<Cgroup>,
    /// What it is mounted on; other containers of the image share it.
    holds: Holds,
}

/// The streams that the program is to have itself, where its log driver says so.
fn passed_streams(record: &ContainerRecord, peer: &Peer) -> Result<Option<[OwnedFd; 3]>> {
    match record.host.lifecycle.log.driver {
        LogDriver::Passthrough => Ok(Some(peer.receive_streams()?)),
        _ => Ok(None),
    }
}

fn copies(streams: &[OwnedFd; 3]) -> Result<[OwnedFd; 3]> {
    let copy = |stream: &OwnedFd| stream.try_clone().during("duplicate", "a standard stream");
    let [stdin, stdout, stderr] = streams;
    Ok([copy(stdin)?, copy(stdout)?, copy(stderr)?])
}

impl Engine {
    /// Runs the container from start to end, as often as its restart policy says; `peer` is the command that wanted it.
    /// `descriptors` are those of this process that the program gets at its first start.
    pub(crate) fn supervise(&self, id: &ContainerId, peer: Peer, descriptors: Vec<u32>) -> Result<()> {
        let record = self.begin(id, &peer)?;
        let first = passed_streams(&record, &peer).and_then(|passed| {
            let prepared = self.prepare_container(record, &passed, descriptors, false)?;
            Ok((self.run_prepared(prepared)?, passed))
        });
        let (started, passed) = first.inspect_err(|error| {
            // Whatever fails while undoing is found and undone by the next command.
            let _ = self.fail(id, &error.with_causes(), i32::from(error.exit_code_of_run()));
            report_failure(&peer, error);
        })?;
        self.stay_while_restarting(id, started, peer, &passed)
    }

    /// Writes down that this process makes the container.
    pub(crate) fn begin(&self, id: &ContainerId, peer: &Peer) -> Result<Box<ContainerRecord>> {
        let monitor = ProcessId::current()?;
        let Container { record, .. } = self.containers.get(id)?;
        let cgroup = limits::cgroup_place(id.as_str(), &record.host.resources)?;
        let start = |state: &mut ContainerState| {
            state.start(monitor)?;
            // Announced once more when it is made, which then changes nothing.
            cgroup.iter().for_each(|place| state.announce(limits::cgroup_effect(place)));
            Ok(())
        };
        // One that cannot be started now may be running: nothing of it is undone.
        let begun = self.containers.update(id, start).map_err(Error::from);
        begun.map(|_| record).inspect_err(|error| report_failure(peer, error))
    }

    /// Tells `peer` that the program runs, and stays as long as it does, and as often as it is started again.
    pub(crate) fn stay_while_restarting(
        &self,
        id: &ContainerId,
        started: Started,
        peer: Peer,
        passed: &Option<[OwnedFd; 3]>,
    ) -> Result<()> {
        peer.send(&Event::Started, REPORT_LIMIT);
        let mut backoff = Backoff::default();
        let mut began = Instant::now();
        let mut status = self.stay(started, Some(peer))?;
        while status == Status::Restarting && self.await_turn(id, backoff.after(began.elapsed()))? {
            // The policy may be another by now, and the name.
            let Container { record, .. } = self.containers.get(id)?;
            let again = self.prepare_container(record, passed, Vec::new(), false);
            let started = again.and_then(|prepared| self.run_prepared(prepared)).inspect_err(|error| {
                let _ = self.fail_restart(id, &error.with_causes(), i32::from(error.exit_code_of_run()));
            })?;
            began = Instant::now();
            status = self.stay(started, None)?;
        }
        Ok(())
    }

    /// Sets the container up that the state says is being made, all but its program; one that `holds` tells when it is.
    pub(crate) fn prepare_container(
        &self,
        record: Box<ContainerRecord>,
        passed: &Option<[OwnedFd; 3]>,
        descriptors: Vec<u32>,
        holds_start: bool,
    ) -> Result<Prepared> {
        let id = &record.id;
        // All that may fail for want of room or descriptors comes before the program runs.
        let log = self.open_log(&record)?;
        let listener = Listener::bind(&self.containers.run_folder(id))?;
        let mut holds = Holds::default();
        let shared = self.shared_namespaces(&record)?;
        // A folder of the user's keeps its labels.
        let is_users = record.root_folder.as_ref().is_some_and(|folder| !folder.overlay);
        let contexts = selinux::in_force(&record.host.security).filter(|_| !is_users);
        let opening = Opening { holds: Some(&mut holds), owners: shared.owners(), ..Opening::default() };
        let plan = SandboxPlan {
            id: id.as_str(),
            rootfs: selinux::open_labelled(&self.container_mount(&record)?, contexts, opening)?,
            program: &record.program,
            host: &record.host,
            folder: &self.containers.run_folder(id),
            extra_binds: Vec::new(),
            passed: passed.as_ref().map(copies).transpose()?,
            descriptors,
            shared,
            holds: holds_start,
        };
        let mut announce = |effect: &Effect| {
            self.containers.update(id, |state| {
                state.announce(effect.clone());
                Ok(())
            })?;
            Ok(())
        };
        let sandbox = self.make_sandbox(plan, &mut announce)?;
        let spec = serde_json::to_vec(&sandbox.spec).expect("a spec has string keys only");
        atomic::write(&self.spec_path(id), &spec, 0o600, Durability::Volatile)?;
        Ok(Prepared { record, sandbox, listener, log, holds })
    }

    /// Executes the program of a container that is set up.
    pub(crate) fn run_prepared(&self, prepared: Prepared) -> Result<Started> {
        let Prepared { record, sandbox, listener, log, holds } = prepared;
        let (sandbox, cgroup) = sandbox.start()?;
        let init = ProcessId::of(sandbox.running.pid())?;
        let is_checked = record.host.lifecycle.health.is_some();
        let locked = self.containers.lock(&record.id)?;
        if is_checked {
            locked.write_checks(&CheckLog::default())?;
        }
        locked.update(|state| {
            state.health = is_checked.then(Health::default);
            state.run(init)
        })?;
        drop(locked);
        self.container_event(&record, "start", &[]);
        let stdin_once = record.program.stdin_once;
        let (monitor, running) = sandbox.into_monitor()?;
        let chore = self.health_chore(&record);
        let time_limit = record.host.lifecycle.timeout_seconds.map(|time| Duration::from_secs(time.into()));
        let monitor = Monitor { stdin_once, log, listener: Some(listener), chore, time_limit, ..monitor };
        Ok(Started { record, monitor, running, cgroup, holds })
    }

    /// The container's files, as its program sees them.
    fn container_mount(&self, record: &ContainerRecord) -> Result<Mount> {
        let mount = self.root_mount(record)?.above(self.mount_points_folder()?);
        // At the end of an overlay the kernel syncs all of the file system that it lies on, unless told that its files
        // need not last.
        Ok(if record.host.auto_remove { mount.volatile() } else { mount })
    }

    /// Where the spec of a running container is kept.
    pub(crate) fn spec_path(&self, id: &ContainerId) -> PathBuf {
        self.containers.run_folder(id).join(SPEC_FILE)
    }

    /// Stays until the program has ended; returns what became of the container.
    fn stay(&self, started: Started, peer: Option<Peer>) -> Result<Status> {
        let Started { record, monitor, running, cgroup, holds } = started;
        match (Monitor { foreground: peer, ..monitor }).run() {
            Ok(finished) => {
                let status = self.end(&record.id, finished.exit, cgroup.as_ref())?;
                finished.announce();
                drop((running, holds));
                Ok(status)
            }
            // Nobody would ever read its output or learn how it ends.
            Err(error) => {
                match cgroup {
                    Some(cgroup) => cgroup.kill()?,
                    None => running.kill(signal::KILL)?,
                }
                Err(error.into())
            }
        }
    }

    /// Writes down how it ended, and undoes what was made for it.
    pub(crate) fn end(&self, id: &ContainerId, exit: Exit, cgroup: Option<&Cgroup>) -> Result<Status> {
        let oom_killed = cgroup.is_some_and(|cgroup| cgroup.oom_killed().unwrap_or(false));
        // Read again: the policy may be another by now, and the name.
        let locked = self.containers.lock(id)?;
        let Container { record, state } = locked.get()?;
        for effect in state.effects.iter().rev() {
            match effect {
                Effect::Cgroup { .. } | Effect::Scope { .. } => {
                    cgroup.map_or(Ok(()), |cgroup| cgroup.kill().and_then(|()| cgroup.delete()))?;
                }
                effect => self.undo(effect)?,
            }
        }
        let policy = record.host.lifecycle.restart;
        let state = locked.update(|state| {
            state.effects.clear();
            let requested = state.restart_requested && state.stop_requested.is_none();
            let restarts =
                requested || policy.restarts(exit.code(), state.restart_count, state.stop_requested);
            // What was only initialized has not run, and does not run again.
            match restarts && state.status != Status::Initialized {
                true => state.await_restart(exit, oom_killed),
                false => state.exit(exit, oom_killed),
            }
        })?;
        self.end_events(&record, &state);
        if record.host.auto_remove && state.status != Status::Restarting {
            self.delete_locked(locked, &record)?;
        }
        Ok(state.status)
    }

    pub(crate) fn fail(&self, id: &ContainerId, message: &str, code: i32) -> Result<()> {
        let container = self.containers.get(id)?;
        for effect in container.state.effects.iter().rev() {
            self.undo(effect)?;
        }
        self.containers.update(id, |state| {
            state.effects.clear();
            state.fail(message.to_owned(), code)
        })?;
        if container.record.host.auto_remove { self.delete_container(id) } else { Ok(()) }
    }

    /// A start by the restart policy that fails is the last one, as in Docker: the next would fail too.
    fn fail_restart(&self, id: &ContainerId, message: &str, code: i32) -> Result<()> {
        let container = self.containers.get(id)?;
        for effect in container.state.effects.iter().rev() {
            self.undo(effect)?;
        }
        let state = self.containers.update(id, |state| {
            state.effects.clear();
            state.fail_restart(message.to_owned(), code)
        })?;
        self.end_events(&container.record, &state);
        Ok(())
    }
}
