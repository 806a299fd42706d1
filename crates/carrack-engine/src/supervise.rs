//! The monitor stage: starts a container, stays with it, and takes it down when it has ended.

use std::path::PathBuf;
use std::time::Duration;

use carrack_container::attach::{Event, Listener, Peer};
use carrack_container::log::{LogWriter, Rotation};
use carrack_container::monitor::{Finished, Monitor};
use carrack_container::{Container, ContainerId, Effect, ProcessId};
use carrack_runtime::Running;
use carrack_runtime::cgroup::Cgroup;
use carrack_snapshot::{Holds, SnapshotKey};
use carrack_sys::atomic::{self, Durability};

use crate::sandbox::SandboxPlan;
use crate::stage::report_failure;
use crate::{Engine, Result};

/// How long the command that started a stage may take to read its report.
pub(crate) const REPORT_LIMIT: Duration = Duration::from_secs(10);

/// A container that runs, and what stays with it.
struct Started {
    container: Container,
    monitor: Monitor,
    running: Running,
    cgroup: Cgroup,
    /// What it is mounted on; other containers of the image share it.
    holds: Holds,
}

impl Engine {
    /// Runs the container from start to end; `peer` is the command that wanted it.
    pub(crate) fn supervise(&self, id: &ContainerId, peer: Peer) -> Result<()> {
        match self.start_container(id) {
            Ok(started) => {
                peer.send(&Event::Started, REPORT_LIMIT);
                self.stay(started, peer)
            }
            Err(error) => {
                let code = i32::from(error.exit_code_of_run());
                // Whatever fails while undoing is found and undone by the next command.
                let _ = self.fail(id, &error.with_causes(), code);
                report_failure(&peer, &error);
                Err(error)
            }
        }
    }

    fn start_container(&self, id: &ContainerId) -> Result<Started> {
        let monitor = ProcessId::current()?;
        self.containers.update(id, |state| state.start(monitor))?;
        let container = self.containers.get(id)?;
        let record = &container.record;
        // All that may fail for want of room or descriptors comes before the program runs.
        let settings = &self.environment.settings.containers;
        let rotation = Rotation { max_bytes: settings.log_max_size, max_files: settings.log_max_files };
        let log = LogWriter::open(&self.containers.log_path(id), rotation)?;
        let listener = Listener::bind(&self.containers.run_folder(id))?;
        let key = SnapshotKey::new(&record.snapshot)?;
        let mut holds = Holds::default();
        let shared = self.shared_namespaces(record)?;
        let mount = self.mount_snapshot(&key)?.above(self.mount_points_folder()?);
        let plan = SandboxPlan {
            id: id.as_str(),
            rootfs: mount.open_held(&mut holds, shared.owners())?,
            program: &record.program,
            host: &record.host,
            folder: &self.containers.run_folder(id),
            extra_binds: Vec::new(),
            shared,
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
        let (sandbox, cgroup) = sandbox.start()?;
        let init = ProcessId::of(sandbox.running.pid())?;
        self.containers.update(id, |state| state.run(init))?;
        let stdin_once = record.program.stdin_once;
        let (monitor, running) = sandbox.into_monitor()?;
        let monitor = Monitor { stdin_once, log: Some(log), listener: Some(listener), ..monitor };
        Ok(Started { container, monitor, running, cgroup, holds })
    }

    /// Where the spec of a running container is kept.
    pub(crate) fn spec_path(&self, id: &ContainerId) -> PathBuf {
        self.containers.run_folder(id).join("config.json")
    }

    fn stay(&self, started: Started, peer: Peer) -> Result<()> {
        let Started { container, monitor, running, cgroup, holds } = started;
        match (Monitor { foreground: Some(peer), ..monitor }).run() {
            Ok(finished) => {
                self.end(&container, &finished, &cgroup)?;
                finished.announce();
                drop((running, holds));
                Ok(())
            }
            // Nobody would ever read its output or learn how it ends.
            Err(error) => {
                cgroup.kill()?;
                Err(error.into())
            }
        }
    }

    /// Writes down how it ended, and undoes what was made for it.
    fn end(&self, container: &Container, finished: &Finished, cgroup: &Cgroup) -> Result<()> {
        let id = &container.record.id;
        let oom_killed = cgroup.oom_killed().unwrap_or(false);
        let state = self.containers.get(id)?.state;
        for effect in state.effects.iter().rev() {
            match effect {
                Effect::Cgroup { .. } => cgroup.kill().and_then(|()| cgroup.delete())?,
                effect => self.undo(effect)?,
            }
        }
        self.containers.update(id, |state| {
            state.effects.clear();
            state.exit(finished.exit, oom_killed)
        })?;
        if container.record.host.auto_remove { self.delete_container(id) } else { Ok(()) }
    }

    fn fail(&self, id: &ContainerId, message: &str, code: i32) -> Result<()> {
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
}
