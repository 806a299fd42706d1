//! One `RUN` of a build: its command in a sandbox on the step's snapshot, in a stage of its own.

use std::path::{Path, PathBuf};

use carrack_build::{RunStep, StepMountKind, Stream, Workspace as _};
use carrack_container::attach::{Client, Event, Peer};
use carrack_container::monitor::Monitor;
use carrack_container::{
    Bind, ContainerId, ContainerNetwork, Effect, HostSettings, MountSettings, NetworkMode, Program,
    Resources, SecuritySettings, TmpfsMount,
};
use carrack_dockerfile::RunNetwork;
use carrack_snapshot::{Opening, SnapshotKey};
use carrack_sys::atomic::{self, Durability};
use carrack_sys::lock::Lock;
use carrack_sys::{IoContext, tree};
use serde::{Deserialize, Serialize};

use crate::build::Workspace;
use crate::limits::{cgroup_effect, cgroup_place};
use crate::mount_points::MountPoints;
use crate::namespaces::Shared;
use crate::sandbox::SandboxPlan;
use crate::stage::{Task, report_failure};
use crate::start::wait_started;
use crate::supervise::REPORT_LIMIT;
use crate::{Engine, Error, Result, selinux};

/// What the step stage is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StepTask {
    /// Names the sandbox, and a folder of the run state for its files.
    id: ContainerId,
    snapshot: SnapshotKey,
    program: Program,
    host: HostSettings,
    /// Read-only files, as of a heredoc.
    files: Vec<StepFile>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StepFile {
    target: PathBuf,
    content: Vec<u8>,
    mode: u32,
}

impl Engine {
    /// Runs the command of a step and returns its exit code.
    pub(crate) fn run_step(
        &self,
        workspace: &mut Workspace<'_>,
        step: &RunStep<'_>,
        network: &NetworkMode,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<i32> {
        let mounts = StepMounts::of(step)?;
        let targets = step.mounts.iter().map(|mount| Path::new(&mount.target));
        let mount_points = MountPoints::look_up(workspace.root(), targets)?;
        let task = StepTask {
            id: ContainerId::random()?,
            snapshot: workspace.key().clone(),
            program: Program {
                entrypoint: step.argv.clone(),
                env: step.env.clone(),
                user: step.user.to_owned(),
                working_dir: step.working_dir.to_owned(),
                ..Program::default()
            },
            host: HostSettings {
                network: ContainerNetwork {
                    mode: step_network(step.network, network),
                    ..ContainerNetwork::default()
                },
                security: SecuritySettings {
                    contexts: self.contexts_of_step()?,
                    ..SecuritySettings::default()
                },
                mounts: MountSettings { tmpfs: mounts.tmpfs, ..MountSettings::default() },
                ..HostSettings::default()
            },
            files: mounts.files,
        };
        let title = format!("build step {}", task.id.short());
        workspace.close();
        let client = self.start_stage(&Task::Step(Box::new(task)), &title, &[])?;
        wait_started(&client, None)?;
        let exit_code = relay(&client, output)?;
        workspace.reopen()?;
        mount_points.remove(workspace.root())?;
        Ok(exit_code)
    }

    /// Takes down the sandboxes of steps whose stage was killed. The folder of a step announces it, and a stage that
    /// lives has the folder's lock.
    pub(crate) fn recover_steps(&self) -> Result<()> {
        let folder = self.steps_folder();
        atomic::create_private_dir(&folder)?;
        let _nobody_comes_or_goes = Lock::exclusive(&self.steps_lock())?;
        for entry in std::fs::read_dir(&folder).during("list", &folder)? {
            let entry = entry.during("list", &folder)?;
            let (name, path) = (entry.file_name(), entry.path());
            let Some(id) = name.to_str() else { continue };
            let Some(_dead) = Lock::try_exclusive(&path.join("lock"))? else { continue };
            self.undo(&Effect::Network { attachment: id.into() })?;
            // As a step has it, whoever makes those of containers.
            if let Some(place) = cgroup_place(id, &Resources::default())? {
                self.undo(&cgroup_effect(&place))?;
            }
            tree::remove_tree(&path)?;
        }
        Ok(())
    }

    pub(crate) fn steps_folder(&self) -> PathBuf {
        self.environment.paths.runroot.join("steps")
    }

    /// Shared: a step begins or ends; exclusive: what killed ones left is taken down.
    fn steps_lock(&self) -> PathBuf {
        self.environment.paths.runroot.join("steps.lock")
    }

    /// The step stage: runs the command, and takes the sandbox down.
    pub(crate) fn step_stage(&self, task: StepTask, peer: Peer) -> Result<()> {
        let folder = self.steps_folder().join(task.id.as_str());
        let begin = Lock::shared(&self.steps_lock())?;
        atomic::create_private_dir(&folder)?;
        let _alive = Lock::exclusive(&folder.join("lock"))?;
        drop(begin);
        let done = self.run_in_sandbox(&task, folder.clone(), peer);
        let _end = Lock::shared(&self.steps_lock())?;
        tree::remove_tree(&folder)?;
        done
    }

    fn run_in_sandbox(&self, task: &StepTask, folder: PathBuf, peer: Peer) -> Result<()> {
        let mut effects = Vec::new();
        let mut announce = |effect: &_| {
            effects.push(Clone::clone(effect));
            Ok(())
        };
        let mount = self.mount_snapshot(&task.snapshot)?.volatile();
        let contexts = selinux::in_force(&task.host.security);
        let plan = SandboxPlan {
            id: task.id.as_str(),
            rootfs: selinux::open_labelled(&mount, contexts, Opening::default())?,
            program: &task.program,
            host: &task.host,
            folder: &folder,
            passed: None,
            extra_binds: task.write_files(&folder)?,
            descriptors: Vec::new(),
            shared: Shared::default(),
            holds: false,
        };
        let started = self.make_sandbox(plan, &mut announce).and_then(|sandbox| sandbox.start());
        let ran = match started {
            Err(error) => {
                report_failure(&peer, &error);
                Err(error)
            }
            Ok((sandbox, _cgroup)) => {
                peer.send(&Event::Started, REPORT_LIMIT);
                // The mount goes with the namespaces, and must be gone before the caller hears of the end.
                let (monitor, _running) = sandbox.into_monitor()?;
                // A build that was killed has no use for the rest.
                Ok(Monitor { foreground: Some(peer), ends_with_client: true, ..monitor }.run()?)
            }
        };
        for effect in effects.iter().rev() {
            self.undo(effect)?;
        }
        ran?.announce();
        Ok(())
    }
}

/// Passes output on until the command has ended.
fn relay(client: &Client, output: &mut dyn FnMut(Stream, &[u8])) -> Result<i32> {
    let mut packet = Vec::new();
    loop {
        match client.receive(&mut packet)? {
            Some(Event::Stdout(bytes)) => output(Stream::Stdout, bytes),
            Some(Event::Stderr(bytes)) => output(Stream::Stderr, bytes),
            Some(Event::Exited { code }) => return Ok(code),
            Some(Event::Started | Event::Failed { .. }) => {}
            None => return Err(Error::Stage("the step ended without a report".to_owned())),
        }
    }
}

fn step_network(step: RunNetwork, build: &NetworkMode) -> NetworkMode {
    match step {
        RunNetwork::Default => build.clone(),
        RunNetwork::None => NetworkMode::None,
        RunNetwork::Host => NetworkMode::Host,
    }
}

/// The mounts of a step, as data for the stage.
#[derive(Default)]
struct StepMounts {
    tmpfs: Vec<TmpfsMount>,
    files: Vec<StepFile>,
}

impl StepMounts {
    /// Of the mounts of `RUN --mount`, takes those that need nothing from outside the sandbox.
    fn of(step: &RunStep<'_>) -> Result<Self> {
        let mut mounts = Self::default();
        for mount in &step.mounts {
            let target = PathBuf::from(&mount.target);
            let kind = match &mount.kind {
                StepMountKind::Tmpfs { size_bytes } => {
                    let options = size_bytes.map_or_else(String::new, |bytes| format!("size={bytes}"));
                    mounts.tmpfs.push(TmpfsMount { destination: target, options });
                    continue;
                }
                StepMountKind::File { content, mode } => {
                    mounts.files.push(StepFile { target, content: content.clone(), mode: *mode });
                    continue;
                }
                StepMountKind::Bind { .. } => "bind",
                StepMountKind::Cache { .. } => "cache",
                StepMountKind::Secret { .. } => "secret",
                StepMountKind::Ssh { .. } => "ssh",
            };
            let message = format!("RUN --mount=type={kind} is not supported");
            return Err(Error::refused(message, "carrack supports type=tmpfs"));
        }
        Ok(mounts)
    }
}

impl StepTask {
    /// Writes the files into `folder`; returns how they are to be bound.
    fn write_files(&self, folder: &Path) -> Result<Vec<Bind>> {
        let mut binds = Vec::with_capacity(self.files.len());
        for (number, file) in self.files.iter().enumerate() {
            let source = folder.join(format!("file-{number}"));
            atomic::write(&source, &file.content, file.mode, Durability::Volatile)?;
            binds.push(Bind { source, destination: file.target.clone(), read_only: true });
        }
        Ok(binds)
    }
}
