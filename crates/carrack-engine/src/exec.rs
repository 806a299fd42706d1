//! Exec: a further program in a running container.

use std::os::fd::AsFd;

use carrack_container::attach::{Event, Peer};
use carrack_container::monitor::Monitor;
use carrack_container::{Container, ContainerId, ContainerRecord, ProcessId, Program, Status};
use carrack_runtime::{Exec, Inherited};
use carrack_sys::atomic;
use carrack_sys::rooted::Root;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::error::OperationContext;
use crate::other_runtime::Calls;
use crate::sandbox::{RunningSandbox, close_passed};
use crate::stage::{Task, report_failure};
use crate::start::{Session, wait_started};
use crate::supervise::REPORT_LIMIT;
use crate::{Engine, Error, Result, limits, sandbox, spec};

/// What a user asks for with `exec`; `None` means "as the container".
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `NAME=value` entries on top of the container's.
    pub env: Vec<String>,
    /// `user[:group]`
    pub user: Option<String>,
    /// The working folder.
    pub working_dir: Option<String>,
    /// Whether the program gets every capability; the container's seccomp profile holds for it all the same.
    pub privileged: bool,
    /// Whether the program runs on a terminal.
    pub tty: bool,
    /// Whether the caller's standard input is connected.
    pub interactive: bool,
    /// Whether nobody waits for the program.
    pub detach: bool,
    /// Descriptors of the caller that the program gets under their numbers.
    pub descriptors: Vec<u32>,
}

/// What the exec stage is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecTask {
    pub container: ContainerId,
    pub program: Program,
    pub privileged: bool,
    /// Names it in events.
    pub exec_id: Option<ContainerId>,
}

impl Engine {
    /// Starts a program in the container that `text` names.
    pub fn exec(&self, text: &str, request: ExecRequest) -> Result<Session<'_>> {
        let container = self.containers.find(text)?;
        self.start_exec(&container, request).operation("execute a command in container", text)
    }

    fn start_exec(&self, container: &Container, request: ExecRequest) -> Result<Session<'_>> {
        if container.state.status == Status::Paused {
            let hint = format!("unpause it first: carrack unpause {}", container.record.name);
            return Err(Error::refused("it is paused", hint));
        }
        if container.state.status != Status::Running {
            let hint = format!("start it first: carrack start {}", container.record.name);
            return Err(Error::refused("it is not running", hint));
        }
        self.thaw_abandoned(container)?;
        let own = &container.record.program;
        let program = Program {
            entrypoint: Vec::new(),
            command: request.command,
            env: [own.env.clone(), request.env].concat(),
            user: request.user.unwrap_or_else(|| own.user.clone()),
            working_dir: request.working_dir.unwrap_or_else(|| own.working_dir.clone()),
            tty: request.tty,
            open_stdin: request.interactive,
            stdin_once: true,
            ..own.clone()
        };
        let id = container.record.id.clone();
        let title = format!("exec {}", id.short());
        let exec_id = ContainerId::random()?;
        self.exec_event(&container.record, "exec_create", &program, exec_id.as_str());
        let task = ExecTask {
            container: id.clone(),
            program,
            privileged: request.privileged,
            exec_id: Some(exec_id.clone()),
        };
        let client = self.start_stage(&Task::Exec(Box::new(task)), &title, &request.descriptors)?;
        wait_started(&client, None)?;
        Ok(Session::of_exec(self, client, id, exec_id))
    }

    /// Joins the container and starts the program in it.
    pub(crate) fn join(&self, task: &ExecTask, descriptors: Vec<u32>) -> Result<RunningSandbox> {
        let Container { record, state } = self.containers.get(&task.container)?;
        let init = state.init.as_ref().map(ProcessId::open).transpose()?.flatten();
        let target = init.ok_or_else(|| Error::refused("it is not running", ""))?;
        let cgroup = limits::open_cgroup(record.id.as_str(), &record.host.resources)?;
        let pid = state.init.map_or(0, |init| init.pid);
        let root = Root::open(format!("/proc/{pid}/root").as_ref())?;
        let user = sandbox::user(root.as_fd(), &task.program, &record.host)?;
        let hostname = self.hostname(record.id.as_str(), &record.program, &record.host)?;
        let mut host = record.host.clone();
        host.security.privileged |= task.privileged;
        let process = spec::exec_process(&task.program, &host, &user, &hostname)?;
        let (streams, stdio) = sandbox::make_streams(&task.program)?;
        let folder = self.containers.run_folder(&record.id);
        let mut running = match &record.host.runtime {
            None => carrack_runtime::exec(Exec {
                target: target.as_fd(),
                spec: &self.spec_of(&record.id)?,
                process: &process,
                stdio,
                cgroup: cgroup.as_ref(),
                state: &sandbox::state(record.id.as_str(), &record.host, &folder, Some(pid)),
                inherited: Inherited { descriptors: descriptors.clone(), ..Inherited::default() },
                landlock: spec::landlock(&record.host.security)?,
            })?,
            Some(runtime) => {
                crate::other_runtime::refuse_descriptors(runtime, &descriptors)?;
                let calls = Calls::new(runtime, record.id.as_str(), &folder);
                calls.exec(&process, stdio, cgroup.as_ref())?
            }
        };
        close_passed(&descriptors);
        let stdio = streams.of(&mut running)?;
        Ok(RunningSandbox { running, stdio })
    }

    /// What a running container was made from.
    fn spec_of(&self, id: &ContainerId) -> Result<Spec> {
        let bytes = atomic::read(&self.spec_path(id))?.unwrap_or_default();
        serde_json::from_slice(&bytes).map_err(|error| Error::Stage(error.to_string()))
    }

    /// Docker's form: what is executed is part of the action.
    fn exec_event(&self, record: &ContainerRecord, action: &str, program: &Program, exec_id: &str) {
        const SHOWN: usize = 4096;
        let command: String = program.command.join(" ").chars().take(SHOWN).collect();
        let action = format!("{action}: {command}");
        self.container_event(record, &action, &[("execID", exec_id.to_owned())]);
    }

    /// The exec stage: joins the container, and stays until the program has ended.
    pub(crate) fn exec_stage(&self, task: ExecTask, descriptors: Vec<u32>, peer: Peer) -> Result<()> {
        match self.join(&task, descriptors) {
            Ok(sandbox) => {
                let record = self.containers.get(&task.container)?.record;
                let exec_id = task.exec_id.map(|id| id.to_string()).unwrap_or_default();
                self.exec_event(&record, "exec_start", &task.program, &exec_id);
                peer.send(&Event::Started, REPORT_LIMIT);
                let (monitor, _running) = sandbox.into_monitor()?;
                let finished = Monitor { foreground: Some(peer), ..monitor }.run()?;
                let details = [("execID", exec_id), ("exitCode", finished.exit.code().to_string())];
                self.container_event(&record, "exec_die", &details);
                finished.announce();
                Ok(())
            }
            Err(error) => {
                report_failure(&peer, &error);
                Err(error)
            }
        }
    }
}
