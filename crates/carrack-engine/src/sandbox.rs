//! The sandbox: what a container of any kind (a container, a step of a build) is made of in the kernel, made in
//! order and undone in reverse.
//!
//! Each effect that outlives a process is announced before it is made, so that whoever finds a dead sandbox knows
//! what to undo.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use carrack_container::monitor::{Monitor, Stdio as MonitorStdio};
use carrack_container::{Bind, Effect, HostSettings, NamespaceMode, NetworkMode, Program};
use carrack_network::{Attachment, Wish};
use carrack_runtime::cgroup::Cgroup;
use carrack_runtime::oci::{State, Status};
use carrack_runtime::{Inherited, Init, Launch, Running, Stdio, User};
use carrack_sys::IoContext;
use carrack_sys::rooted::Root;
use oci_spec::runtime::Spec;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::host_files::HostFiles;
use crate::namespaces::Shared;
use crate::other_runtime::{self, Calls};
use crate::relabel::relabel_one;
use crate::spec::{self, SpecInput};
use crate::{Engine, Error, Result, hooks, limits, selinux, timezone};

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
    /// Standard input, output and error of whoever starts it, where the program is to have them itself.
    pub passed: Option<[OwnedFd; 3]>,
    /// Descriptors of this process that the program gets under their numbers; closed here when it has them.
    pub descriptors: Vec<u32>,
    /// What its namespaces are shared with.
    pub shared: Shared,
    /// Whether its program is started later, by whoever asks for it.
    pub holds: bool,
}

/// A sandbox whose first process waits to become the program.
pub(crate) struct Sandbox {
    first: First,
    streams: Streams,
    cgroup: Option<Cgroup>,
    /// What it was made from; a further process in it needs the same.
    pub spec: Spec,
}

/// The first process, by who has made it.
enum First {
    Own(Box<Init>),
    Other(other_runtime::Created),
}

impl First {
    fn network_namespace(&self) -> Result<OwnedFd> {
        match self {
            Self::Own(init) => Ok(init.network_namespace()?),
            Self::Other(created) => created.network_namespace(),
        }
    }

    fn start(self) -> Result<Running> {
        match self {
            Self::Own(init) => Ok(init.start()?),
            Self::Other(created) => created.start(),
        }
    }
}

/// The ends of standard streams that stay outside.
pub(crate) enum Streams {
    Pipes {
        stdin: Option<OwnedFd>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    Console,
    /// None does.
    Passed,
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
        let hostname = self.hostname(plan.id, plan.program, plan.host)?;
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
        binds.extend(self.write_secrets(&plan.host.secrets, plan.folder, &plan.shared, announce)?);
        binds.extend(plan.extra_binds);
        label_files(&binds, plan.host)?;
        let user = user(plan.rootfs.as_fd(), plan.program, plan.host)?;
        let opened = self.open_mounts(plan.id, plan.host, &user)?;
        let input = SpecInput {
            program: plan.program,
            host: plan.host,
            user: &user,
            hostname: &hostname,
            binds: &binds,
            mounts: opened.mounts(),
            shared: &plan.shared,
            settings: &self.environment.settings.containers,
        };
        let mut spec = spec::container_spec(&input)?;
        self.add_secret_variables(&plan.host.secrets, &mut spec)?;
        // Another runtime finds them in the spec, and runs them.
        let hooks = match &plan.host.runtime {
            None => hooks::prepare(plan.id, plan.folder, &mut spec, announce)?,
            Some(_) => None,
        };
        let cgroup = make_cgroup(plan.id, plan.host, &spec, announce)?;
        let (streams, stdio) = match plan.passed {
            Some(passed) => (Streams::Passed, passed_stdio(passed, plan.program)?),
            None => make_streams(plan.program)?,
        };
        let mut first = match &plan.host.runtime {
            None => First::Own(Box::new(carrack_runtime::create(Launch {
                spec: &spec,
                rootfs: plan.rootfs,
                stdio,
                cgroup: cgroup.as_ref(),
                reaper: plan.host.init,
                state: &state(plan.id, plan.host, plan.folder, None),
                inherited: Inherited { descriptors: plan.descriptors.clone(), ..Inherited::default() },
                landlock: spec::landlock(&plan.host.security)?,
                hooks,
                tells_ready: plan.holds,
                standby: None,
            })?)),
            Some(runtime) => {
                other_runtime::refuse_descriptors(runtime, &plan.descriptors)?;
                let calls = Calls::new(runtime, plan.id, plan.folder);
                announce(&calls.effect())?;
                spec = other_runtime::adapted(spec, plan.id, plan.host, cgroup.as_ref())?;
                First::Other(calls.create(&mut spec, plan.rootfs, stdio, cgroup.as_ref())?)
            }
        };
        close_passed(&plan.descriptors);
        if let Some(attachment) = self.attach_network(plan.id, plan.host, &first, announce)? {
            HostFiles { address: Some(IpAddr::V4(attachment.address)), ..files }.write(plan.folder)?;
        }
        if let First::Own(init) = &mut first {
            init.run_hooks()?;
        }
        Ok(Sandbox { first, streams, cgroup, spec })
    }

    fn attach_network(
        &self,
        id: &str,
        host: &HostSettings,
        first: &First,
        announce: Announce<'_>,
    ) -> Result<Option<Attachment>> {
        match host.network.mode {
            NetworkMode::Bridge => {}
            NetworkMode::None | NetworkMode::Host | NetworkMode::Container(_) | NetworkMode::Path(_) => {
                return Ok(None);
            }
        }
        announce(&Effect::Network { attachment: id.into() })?;
        let netns = first.network_namespace()?;
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

/// The container may read the files that carrack keeps for it.
fn label_files(binds: &[Bind], host: &HostSettings) -> Result<()> {
    let Some(contexts) = selinux::in_force(&host.security) else { return Ok(()) };
    for bind in binds {
        let (folder, name) = (bind.source.parent(), bind.source.file_name());
        if let (Some(folder), Some(name)) = (folder, name) {
            relabel_one(&Root::open(folder)?.at(name)?, &contexts.files)?;
        }
    }
    Ok(())
}

/// The container as a seccomp agent is told of it: being created, or with the pid of its first process.
pub(crate) fn state(id: &str, host: &HostSettings, folder: &Path, pid: Option<i32>) -> State {
    let status = if pid.is_some() { Status::Running } else { Status::Creating };
    State { pid, annotations: host.annotations.clone(), ..State::new(id, status, folder.to_owned()) }
}

/// Who a program runs as, with the groups that the host's settings add.
pub(crate) fn user(rootfs: BorrowedFd<'_>, program: &Program, host: &HostSettings) -> Result<User> {
    let mut user = carrack_runtime::resolve_user(rootfs, &program.user)?;
    user.groups.extend(carrack_runtime::resolve_groups(rootfs, &host.group_add)?);
    Ok(user)
}

/// The host name in a sandbox: by default the short id, or the host's own together with its network.
pub(crate) fn hostname(id: &str, program: &Program, host: &HostSettings) -> String {
    let of_host = host.network.mode == NetworkMode::Host || host.namespaces.uts == NamespaceMode::Host;
    match program.hostname.as_str() {
        "" if of_host => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        "" => id[..12].to_owned(),
        given => given.to_owned(),
    }
}

/// The cgroup of a sandbox with the limits of its spec; `None` when it is to have none of its own.
fn make_cgroup(id: &str, host: &HostSettings, spec: &Spec, announce: Announce<'_>) -> Result<Option<Cgroup>> {
    let Some(place) = limits::cgroup_place(id, &host.resources)? else { return Ok(None) };
    announce(&limits::cgroup_effect(&place))?;
    let cgroup = Cgroup::create_at(&place, &spec::limits(spec))?;
    limits::check_supported(&host.resources, cgroup.unsupported())?;
    Ok(Some(cgroup))
}

fn network_effect(attachment: &Attachment) -> Effect {
    Effect::Network {
        attachment: serde_json::to_value(attachment).expect("an attachment has string keys only"),
    }
}

impl Sandbox {
    /// Waits until all is set up: only its program is missing.
    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        match &mut self.first {
            First::Own(init) => Ok(init.wait_ready()?),
            First::Other(_) => Err(not_ours()),
        }
    }

    /// The first process, which is to become the program.
    pub(crate) fn init(&self) -> Result<&Init> {
        match &self.first {
            First::Own(init) => Ok(init),
            First::Other(_) => Err(not_ours()),
        }
    }

    /// Its cgroup, where it has one of its own.
    pub(crate) fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Lets the first process become the program; returns when it has, or why it could not.
    pub(crate) fn start(self) -> Result<(RunningSandbox, Option<Cgroup>)> {
        let mut running = self.first.start()?;
        let stdio = self.streams.of(&mut running)?;
        Ok((RunningSandbox { running, stdio }, self.cgroup))
    }
}

/// The answer to who wants to initialize a container of another runtime.
pub(crate) fn not_ours() -> Error {
    Error::refused(
        "another OCI runtime starts it, which cannot be stopped half-way",
        "start it: carrack start",
    )
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
            chore: None,
            time_limit: None,
        };
        Ok((monitor, self.running))
    }
}

impl Streams {
    /// What the monitor of a running program works with.
    pub(crate) fn of(self, running: &mut Running) -> Result<MonitorStdio> {
        match (self, running.console.take()) {
            (Self::Pipes { stdin, stdout, stderr }, _) => Ok(MonitorStdio::Pipes { stdin, stdout, stderr }),
            (Self::Passed, _) => Ok(MonitorStdio::Passed),
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

/// The caller's own streams; its input only where the program is to have input.
fn passed_stdio(passed: [OwnedFd; 3], program: &Program) -> Result<Stdio> {
    let [stdin, stdout, stderr] = passed;
    let stdin = if program.open_stdin { stdin } else { null()? };
    Ok(Stdio::Streams { stdin, stdout, stderr })
}

/// Closes what a program has by now, so that others notice when the program closes it.
pub(crate) fn close_passed(descriptors: &[u32]) {
    for number in descriptors {
        // One that could not be closed stays open until this process ends.
        let _ = carrack_sys::process::close_inherited(*number);
    }
}

fn null() -> Result<OwnedFd> {
    Ok(std::fs::File::open("/dev/null").during("open", "/dev/null")?.into())
}
