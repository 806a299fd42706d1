//! The sandbox: what a container of any kind (a container, a step of a build) is made of in the kernel, made in
//! order and undone in reverse.
//!
//! Each effect that outlives a process is announced before it is made, so that whoever finds a dead sandbox knows
//! what to undo.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_container::monitor::{Monitor, Stdio as MonitorStdio};
use carrack_container::{Bind, Effect, HostSettings, NetworkMode, Program};
use carrack_network::{Attachment, Wish};
use carrack_runtime::cgroup::Cgroup;
use carrack_runtime::{Init, Launch, Running, Stdio, User};
use carrack_sys::IoContext;
use oci_spec::runtime::Spec;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::host_files::HostFiles;
use crate::spec::{self, SpecInput};
use crate::{Engine, Error, Result, timezone};

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
    cgroup: Cgroup,
    /// What it was made from; a further process in it needs the same.
    pub spec: Spec,
}

/// The ends of standard streams that stay outside.
pub(crate) enum Streams {
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
        let hostname = hostname(plan.id, plan.program, plan.host);
        // The address is known only when the network is attached, the mounts before: the file is written again.
        let files = HostFiles {
            hostname: &hostname,
            domainname: &plan.program.domainname,
            host: plan.host,
            address: None,
            gateway: self.host_gateway(&plan.host.network.mode)?,
        };
        let mut binds = files.write(plan.folder)?;
        binds.extend(timezone::bind(&plan.program.timezone, plan.folder)?);
        binds.extend(plan.extra_binds);
        let user = user(plan.rootfs.as_fd(), plan.program, plan.host)?;
        let input = SpecInput {
            program: plan.program,
            host: plan.host,
            user: &user,
            hostname: &hostname,
            binds: &binds,
            settings: &self.environment.settings.containers,
        };
        let spec = spec::container_spec(&input)?;
        let cgroup_path = cgroup_path(plan.id);
        announce(&Effect::Cgroup { path: cgroup_path.display().to_string() })?;
        let cgroup = Cgroup::create(&cgroup_path, &spec::limits(&spec))?;
        check_limits(plan.host, cgroup.unsupported())?;
        let (streams, stdio) = make_streams(plan.program)?;
        let launch =
            Launch { spec: &spec, rootfs: plan.rootfs, stdio, cgroup: Some(&cgroup), reaper: plan.host.init };
        let init = carrack_runtime::create(launch)?;
        if let Some(attachment) = self.attach_network(plan.id, plan.host, &init, announce)? {
            HostFiles { address: Some(IpAddr::V4(attachment.address)), ..files }.write(plan.folder)?;
        }
        Ok(Sandbox { init, streams, cgroup, spec })
    }

    fn attach_network(
        &self,
        id: &str,
        host: &HostSettings,
        init: &Init,
        announce: Announce<'_>,
    ) -> Result<Option<Attachment>> {
        match host.network.mode {
            NetworkMode::Bridge => {}
            NetworkMode::None => {
                carrack_network::loopback_up(init.network_namespace()?.as_fd())?;
                return Ok(None);
            }
            NetworkMode::Host | NetworkMode::Container(_) => return Ok(None),
        }
        announce(&Effect::Network { attachment: id.into() })?;
        let netns = init.network_namespace()?;
        let ports = crate::ports::to_published(&host.network.ports);
        let state = self.network_state();
        let wish = crate::network::wish(&host.network)?;
        let bridge = self.bridge()?;
        let attachment =
            carrack_network::attach_at(&state, &bridge, id, netns.as_fd(), Wish { ports: &ports, ..wish })?;
        announce(&network_effect(&attachment))?;
        Ok(Some(attachment))
    }
}

/// Who a program runs as, with the groups that the host's settings add.
pub(crate) fn user(rootfs: BorrowedFd<'_>, program: &Program, host: &HostSettings) -> Result<User> {
    let mut user = carrack_runtime::resolve_user(rootfs, &program.user)?;
    user.groups.extend(carrack_runtime::resolve_groups(rootfs, &host.group_add)?);
    Ok(user)
}

/// The host name in a sandbox: by default the short id, or the host's own together with its network.
pub(crate) fn hostname(id: &str, program: &Program, host: &HostSettings) -> String {
    match (program.hostname.as_str(), &host.network.mode) {
        ("", NetworkMode::Host) => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        ("", _) => id[..12].to_owned(),
        (given, _) => given.to_owned(),
    }
}

/// Refuses limits that the user asked for and this host cannot hold; carrack's own defaults may go without.
fn check_limits(host: &HostSettings, unsupported: &[&str]) -> Result<()> {
    let asked = [
        ("memory", host.resources.memory_bytes.is_some()),
        ("cpu", host.resources.nano_cpus.is_some() || host.resources.cpu_shares.is_some()),
        ("cpuset", host.resources.cpuset_cpus.is_some()),
        ("pids", host.resources.pids_limit.is_some_and(|limit| limit > 0)),
    ];
    match asked.iter().find(|(controller, is_asked)| *is_asked && unsupported.contains(controller)) {
        None => Ok(()),
        Some((controller, _)) => Err(Error::refused(
            format!("cannot hold the limit: this host has no cgroup controller {controller}"),
            "mount the cgroup filesystem, or leave the limit out",
        )),
    }
}

/// Where the cgroup of a sandbox is in each hierarchy.
pub(crate) fn cgroup_path(id: &str) -> PathBuf {
    Path::new("/carrack").join(id)
}

fn network_effect(attachment: &Attachment) -> Effect {
    Effect::Network {
        attachment: serde_json::to_value(attachment).expect("an attachment has string keys only"),
    }
}

impl Sandbox {
    /// Lets the first process become the program; returns when it has, or why it could not.
    pub(crate) fn start(self) -> Result<(RunningSandbox, Cgroup)> {
        let mut running = self.init.start()?;
        let stdio = self.streams.of(&mut running)?;
        Ok((RunningSandbox { running, stdio }, self.cgroup))
    }
}

impl RunningSandbox {
    /// What stays with the program; a log and clients are to be added. The program's namespaces live as long as the
    /// second value: dropped after the exit is reported, it takes their teardown off the caller's way.
    pub(crate) fn into_monitor(self) -> Result<(Monitor, Running)> {
        let monitor = Monitor {
            init: self.running.pidfd().try_clone_to_owned().during("duplicate", "a pidfd")?,
            stdio: self.stdio,
            stdin_once: true,
            log: None,
            listener: None,
            foreground: None,
            ends_with_client: false,
        };
        Ok((monitor, self.running))
    }
}

impl Streams {
    /// What the monitor of a running program works with.
    pub(crate) fn of(self, running: &mut Running) -> Result<MonitorStdio> {
        match (self, running.console.take()) {
            (Self::Pipes { stdin, stdout, stderr }, _) => Ok(MonitorStdio::Pipes { stdin, stdout, stderr }),
            (Self::Console, Some(console)) => Ok(MonitorStdio::Console(console)),
            (Self::Console, None) => Err(Error::Stage("the terminal is missing".to_owned())),
        }
    }
}

/// The container's ends of its standard streams, and ours.
pub(crate) fn make_streams(program: &Program) -> Result<(Streams, Stdio)> {
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
