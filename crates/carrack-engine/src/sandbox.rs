//! The sandbox: what a container of any kind (a container, a step of a build) is made of in the kernel, made in
//! order and undone in reverse.
//!
//! Each effect that outlives a process is announced before it is made, so that whoever finds a dead sandbox knows
//! what to undo.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_container::monitor::Stdio as MonitorStdio;
use carrack_container::{Bind, Effect, HostSettings, NetworkMode, Program};
use carrack_network::{Attachment, Bridge};
use carrack_runtime::cgroup::Cgroup;
use carrack_runtime::{Init, Launch, Running, Stdio};
use carrack_sys::IoContext;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::host_files::HostFiles;
use crate::spec::{self, SpecInput};
use crate::{Engine, Result};

/// What a sandbox is made of, as data.
pub(crate) struct SandboxPlan<'a> {
    /// Names the cgroup and the network lease.
    pub id: &'a str,
    /// The root filesystem, detached.
    pub rootfs: OwnedFd,
    /// What runs in it.
    pub program: &'a Program,
    /// What the host gives it.
    pub host: &'a HostSettings,
    /// A folder of the host for the files of name resolution.
    pub folder: &'a Path,
    /// Mounts beside those of `host`.
    pub extra_binds: Vec<Bind>,
}

/// A sandbox whose first process waits to become the program.
pub(crate) struct Sandbox {
    init: Init,
    streams: Streams,
    /// What was made, in order.
    pub effects: Vec<Effect>,
    pub cgroup: Cgroup,
    pub warnings: Vec<String>,
}

/// The ends of standard streams that stay outside.
enum Streams {
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    Console,
}

/// A sandbox whose program runs.
pub(crate) struct RunningSandbox {
    pub running: Running,
    pub stdio: MonitorStdio,
}

/// Where effects are written down.
pub(crate) type Announce<'a> = &'a mut dyn FnMut(&Effect) -> Result<()>;

impl Engine {
    /// Makes a sandbox up to the moment before its program is executed.
    pub(crate) fn make_sandbox(&self, plan: SandboxPlan<'_>, announce: Announce<'_>) -> Result<Sandbox> {
        let hostname = if plan.program.hostname.is_empty() { &plan.id[..12] } else { &plan.program.hostname };
        // The address is known only when the network is attached, the mounts before: the file is written again.
        let files = HostFiles { hostname, host: plan.host, address: None };
        let mut binds = files.write(plan.folder)?;
        binds.extend(plan.extra_binds);
        let user = carrack_runtime::resolve_user(plan.rootfs.as_fd(), &plan.program.user)?;
        let input = SpecInput {
            program: plan.program,
            host: plan.host,
            user: &user,
            hostname,
            binds: &binds,
            settings: &self.environment.settings.containers,
        };
        let spec = spec::container_spec(&input, plan.rootfs.as_fd())?;
        let cgroup_path = PathBuf::from("/carrack").join(plan.id);
        let mut effects = vec![Effect::Cgroup { path: cgroup_path.display().to_string() }];
        announce(&effects[0])?;
        let cgroup = Cgroup::create(&cgroup_path, &spec::resources(&spec))?;
        let (streams, stdio) = make_streams(plan.program)?;
        let launch = Launch { spec: &spec, rootfs: plan.rootfs, stdio, cgroup: Some(&cgroup) };
        let init = carrack_runtime::create(launch)?;
        if let Some(attachment) = self.attach_network(plan.id, plan.host, &init, announce)? {
            HostFiles { address: Some(IpAddr::V4(attachment.address)), ..files }.write(plan.folder)?;
            effects.push(network_effect(&attachment));
        }
        let warnings = cgroup.unsupported().iter().map(|name| format!("this kernel cannot limit {name}")).collect();
        Ok(Sandbox { init, streams, effects, cgroup, warnings })
    }

    fn attach_network(
        &self,
        id: &str,
        host: &HostSettings,
        init: &Init,
        announce: Announce<'_>,
    ) -> Result<Option<Attachment>> {
        if host.network != NetworkMode::Bridge {
            return Ok(None);
        }
        announce(&Effect::Network { attachment: id.into() })?;
        let netns = init.network_namespace()?;
        let settings = &self.environment.settings.network;
        let bridge = Bridge::new(&settings.bridge, settings.subnet.parse()?)?;
        let ports = crate::ports::to_published(&host.ports);
        let attachment = carrack_network::attach(&self.network_state(), &bridge, id, netns.as_fd(), &ports)?;
        announce(&network_effect(&attachment))?;
        Ok(Some(attachment))
    }
}

fn network_effect(attachment: &Attachment) -> Effect {
    Effect::Network { attachment: serde_json::to_value(attachment).expect("an attachment has string keys only") }
}

impl Sandbox {
    /// Lets the first process become the program; returns when it has, or why it could not.
    pub(crate) fn start(self) -> Result<(RunningSandbox, Cgroup)> {
        let mut running = self.init.start()?;
        let stdio = match self.streams {
            Streams::Pipes { stdin, stdout, stderr } => MonitorStdio::Pipes { stdin, stdout, stderr },
            Streams::Console => {
                let console = running.console.take();
                MonitorStdio::Console(console.ok_or_else(|| crate::Error::Stage("the terminal is missing".into()))?)
            }
        };
        Ok((RunningSandbox { running, stdio }, self.cgroup))
    }
}

/// The container's ends of its standard streams, and ours.
fn make_streams(program: &Program) -> Result<(Streams, Stdio)> {
    if program.tty {
        return Ok((Streams::Console, Stdio::Console));
    }
    let new_pipe = || pipe_with(PipeFlags::CLOEXEC).during("create", "a pipe");
    let (stdout, container_stdout) = new_pipe()?;
    let (stderr, container_stderr) = new_pipe()?;
    let (container_stdin, stdin) = match program.open_stdin {
        true => new_pipe().map(|(read, write)| (read, Some(write)))?,
        false => (null()?, None),
    };
    let stdio = Stdio::Streams { stdin: container_stdin, stdout: container_stdout, stderr: container_stderr };
    Ok((Streams::Pipes { stdin, stdout, stderr }, stdio))
}

fn null() -> Result<OwnedFd> {
    Ok(std::fs::File::open("/dev/null").during("open", "/dev/null")?.into())
}
