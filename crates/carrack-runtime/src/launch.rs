//! Creating and starting a container: the parent's side.
//!
//! The caller is a process of one thread that was started from [`crate::executable::read_only`].

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use carrack_sys::IoContext;
use carrack_sys::mount::{Attributes, Propagation, set_attributes};
use carrack_sys::process::{Cloned, namespace, send_signal, wait_pidfd};
use oci_spec::runtime::{Linux, LinuxSeccomp, Process, Root, Spec};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, waitid};

use crate::cgroup::{Cgroup, Entrances};
use crate::channel::{Channel, Report, Signal};
use crate::hooks::LaunchHooks;
use crate::init::{self, Plan};
use crate::masks::Masks;
use crate::namespaces::Namespaces;
use crate::oci::State;
use crate::owners::Mappings;
use crate::process::{Inherited, PlannedProcess, Stdio};
use crate::rlimits::ClampedRlimit;
use crate::seccomp::agent::Agent;
use crate::standby::Standby;
use crate::sysctl::Sysctls;
use crate::{Error, Landlock, Result, devices, executable, mounts};

/// What a container is made of.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The spec. Its `root.path`, `hooks`, `annotations` and `linux.cgroupsPath` and `linux.resources` are not
    /// looked at: the caller has acted on them.
    pub spec: &'a Spec,
    /// A detached mount whose root becomes the container's root.
    pub rootfs: OwnedFd,
    /// Standard streams of the first process.
    pub stdio: Stdio,
    /// Where the container is put; `None` leaves it in the caller's cgroup.
    pub cgroup: Option<&'a Cgroup>,
    /// Whether a small reaper is process 1 and the program its child (`--init`).
    pub reaper: bool,
    /// What a seccomp agent is told of the container.
    pub state: &'a State,
    /// What the first process keeps of the caller.
    pub inherited: Inherited,
    /// What of the container's files its processes may reach; `None` is all.
    pub landlock: Option<Landlock>,
    /// The spec's hooks, which [`Init::run_hooks`] and the first process run.
    pub hooks: Option<LaunchHooks>,
    /// Whether [`Init::wait_ready`] will be called.
    pub tells_ready: bool,
    /// How the container is started by a later process; `None` when [`Init::start`] does it.
    pub standby: Option<Standby>,
}

/// Clones the container's first process, which sets the container up and then waits for [`Init::start`].
///
/// When this returns, the namespaces exist and the process is in its cgroup; an error in the set-up that goes on
/// meanwhile is reported by `start`.
pub fn create(launch: Launch<'_>) -> Result<Init> {
    executable::require_read_only()?;
    let Launch {
        spec,
        rootfs,
        stdio,
        cgroup,
        reaper,
        state,
        inherited,
        landlock,
        hooks,
        tells_ready,
        standby,
    } = launch;
    let mut plan = plan(spec, stdio, cgroup, reaper)?;
    plan.process.inherited = inherited;
    plan.process.landlock = landlock.map(Landlock::checked).transpose()?;
    plan.process.start_hooks = hooks.as_ref().map(LaunchHooks::start_hooks);
    plan.hooks = hooks.clone();
    plan.tells_ready = tells_ready || standby.is_some();
    // Of a container on standby, the starter brings agent and listener together.
    let agent = if standby.is_none() { Agent::connect(seccomp(spec), state)? } else { None };
    plan.standby = standby;
    // A slave gets what is mounted on the original later; made shared, it would be a group of its own.
    let propagation = match plan.propagation {
        Some((Propagation::Slave, _)) => Propagation::Slave,
        _ => Propagation::Private,
    };
    set_attributes(rootfs.as_fd(), Attributes::propagation(propagation), true)?;
    let (channel, child_channel) = Channel::pair()?;
    let v2_folder = cgroup.map(Cgroup::v2_folder).transpose()?.flatten();
    match plan.namespaces.clone_first(v2_folder.as_ref().map(AsFd::as_fd))? {
        Cloned::Child => {
            drop(channel);
            init::fail(init::run(plan, rootfs, child_channel))
        }
        Cloned::Parent { pid, pidfd } => {
            drop(child_channel);
            let maps_owners = plan.namespaces.has_new(namespace::USER);
            let mut init = Init::new(pid, pidfd, channel, plan.process.rlimits.clamped, agent);
            init.hold_namespaces();
            if let Some(cgroup) = cgroup {
                let limits = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
                cgroup.settle(init.pid(), limits)?;
            }
            init.hooks = hooks;
            if maps_owners {
                Mappings::of(spec).write(init.child.pid)?;
                init.channel.signal(Signal::OwnersMapped)?;
            }
            init.place(spec.process().as_ref().and_then(Process::oom_score_adj))?;
            Ok(init)
        }
    }
}

fn plan(spec: &Spec, stdio: Stdio, cgroup: Option<&Cgroup>, reaper: bool) -> Result<Plan> {
    let linux = spec.linux().as_ref().ok_or_else(|| Error::spec("expected the section linux, got none"))?;
    let process = spec.process().as_ref().ok_or_else(|| Error::spec("expected a process, got none"))?;
    let namespaces = Namespaces::plan(spec)?;
    refuse_unsupported(linux)?;
    if namespaces.has_new(namespace::USER) {
        Mappings::of(spec).check()?;
    }
    let own_names = namespaces.has(namespace::UTS);
    if (spec.hostname().is_some() || spec.domainname().is_some()) && !own_names {
        return Err(Error::spec("a host name needs a UTS namespace of the container's own"));
    }
    let mounts = mounts::plan(spec, &namespaces)?;
    let of_cgroups = mounts.iter().find(|mount| mount.needs_cgroup()).map(mounts::PlannedMount::attributes);
    let view = |attributes| {
        cgroup.map(|cgroup| cgroup.view(namespaces.has(namespace::CGROUP), attributes)).transpose()
    };
    let view = of_cgroups.map_or(Ok(None), view)?;
    Ok(Plan {
        mounts,
        devices: devices::plan(spec, namespaces.has(namespace::USER))?,
        masks: Masks::plan()?,
        masked_paths: linux.masked_paths().clone().unwrap_or_default(),
        readonly_paths: linux.readonly_paths().clone().unwrap_or_default(),
        readonly_rootfs: spec.root().as_ref().and_then(Root::readonly).unwrap_or(false),
        propagation: linux.rootfs_propagation().as_deref().map(propagation).transpose()?,
        hostname: spec.hostname().clone(),
        domainname: spec.domainname().clone(),
        sysctls: Sysctls::plan(spec, &namespaces)?,
        cgroup: view,
        entrances: Entrances::open(cgroup)?,
        process: PlannedProcess::new(process, Some(linux), stdio, reaper)?,
        hooks: None,
        tells_ready: false,
        standby: None,
        namespaces,
    })
}

/// What a container would not have, although it was asked for, is refused.
fn refuse_unsupported(linux: &Linux) -> Result<()> {
    let asked = [
        ("intelRdt", linux.intel_rdt().is_some()),
        ("memoryPolicy", linux.memory_policy().is_some()),
        ("netDevices", linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty())),
    ];
    match asked.iter().find(|(_, is_asked)| *is_asked) {
        Some((name, _)) => {
            Err(Error::spec(format!("linux.{name} is not supported by carrack, leave it out")))
        }
        None => Ok(()),
    }
}

pub(crate) fn seccomp(spec: &Spec) -> Option<&LinuxSeccomp> {
    spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref())
}

fn propagation(text: &str) -> Result<(Propagation, bool)> {
    let kind = match text {
        "shared" | "rshared" => Propagation::Shared,
        "slave" | "rslave" => Propagation::Slave,
        "private" | "rprivate" => Propagation::Private,
        "unbindable" | "runbindable" => Propagation::Unbindable,
        _ => {
            return Err(Error::spec(format!(
                "expected shared, slave, private or unbindable as the propagation of the root, got {text:?}"
            )));
        }
    };
    Ok((kind, text.starts_with('r')))
}

/// A child process, ended when dropped unless it was let go.
#[derive(Debug)]
struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    wanted: bool,
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.wanted {
            let _ = send_signal(self.pidfd.as_fd(), SIGKILL);
            let _ = wait_pidfd(self.pidfd.as_fd());
        }
    }
}

const SIGKILL: i32 = rustix::process::Signal::KILL.as_raw();

/// A container whose program has not been executed yet. Dropping it ends the container.
#[derive(Debug)]
pub struct Init {
    child: Child,
    channel: Channel,
    clamped_rlimits: Vec<ClampedRlimit>,
    namespaces: Vec<OwnedFd>,
    /// Who answers for the seccomp profile.
    agent: Option<Agent>,
    hooks: Option<LaunchHooks>,
    /// The master of the terminal, once the first process has sent it.
    console: Option<OwnedFd>,
}

impl Init {
    pub(crate) fn new(
        pid: Pid,
        pidfd: OwnedFd,
        channel: Channel,
        clamped_rlimits: Vec<ClampedRlimit>,
        agent: Option<Agent>,
    ) -> Self {
        let child = Child { pid, pidfd, wanted: false };
        Self { child, channel, clamped_rlimits, namespaces: Vec::new(), agent, hooks: None, console: None }
    }

    /// Keeps the namespaces that are slow to take down beyond the end of the container. The kernel reports the end
    /// of a process only after it has taken down what the process alone held: 2 ms for a mount namespace.
    fn hold_namespaces(&mut self) {
        let names = ["mnt", "net"].iter();
        self.namespaces = names.filter_map(|name| self.open_namespace(name).ok().map(Into::into)).collect();
    }

    /// Sets what only the parent can, and tells the child.
    pub(crate) fn place(&self, oom_score: Option<i32>) -> Result<()> {
        if let Some(score) = oom_score {
            set_oom_score(self.child.pid, score)?;
        }
        self.channel.signal(Signal::Placed)
    }

    /// The process id on the host.
    pub fn pid(&self) -> i32 {
        self.child.pid.as_raw_pid()
    }

    /// A handle of the process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// Limits that could not be given as asked for.
    pub fn clamped_rlimits(&self) -> &[ClampedRlimit] {
        &self.clamped_rlimits
    }

    /// The network namespace that the container is in. Where the set-up has failed already, this tells why.
    pub fn network_namespace(&self) -> Result<OwnedFd> {
        match self.open_namespace("net") {
            Err(error) if error.is_not_found() => match self.channel.outcome(|_| Ok(())) {
                Err(reason) => Err(reason),
                Ok(_) => Err(error.into()),
            },
            result => Ok(result?.into()),
        }
    }

    fn open_namespace(&self, name: &str) -> carrack_sys::Result<fs::File> {
        let path = format!("/proc/{}/ns/{name}", self.pid());
        fs::File::open(&path).during("open the namespace", &path)
    }

    /// Runs the hooks that run with all mounts made and the root not yet entered; returns when the container may go on.
    pub fn run_hooks(&mut self) -> Result<()> {
        let pid = self.pid();
        let Some(hooks) = &mut self.hooks else { return Ok(()) };
        hooks.state.pid = Some(pid);
        loop {
            match self.channel.report()? {
                Report::Console(master) => self.console = Some(master),
                Report::Mounted => break,
                Report::Ready | Report::Executing | Report::Listener(_) | Report::End => return Err(killed()),
            }
        }
        hooks.run_outside()?;
        self.channel.signal(Signal::HooksRan)
    }

    /// Waits until all is set up and the program only has to be executed.
    pub fn wait_ready(&mut self) -> Result<()> {
        loop {
            match self.channel.report()? {
                Report::Console(master) => self.console = Some(master),
                Report::Ready => return Ok(()),
                Report::Mounted | Report::Executing | Report::Listener(_) | Report::End => {
                    return Err(killed());
                }
            }
        }
    }

    /// The master of the terminal of a container that is set up.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Leaves a container on standby to whoever starts it; it ends no more with this value.
    pub fn leave(self) -> Running {
        let Self { mut child, namespaces, .. } = self;
        child.wanted = true;
        Running { child, console: None, _namespaces: namespaces }
    }

    /// Executes the program; returns when it runs, or with the reason why it or the set-up failed.
    pub fn start(self) -> Result<Running> {
        let Self { mut child, channel, namespaces, mut agent, hooks, console, .. } = self;
        channel.signal(Signal::Start)?;
        let sent = channel.outcome(|listener| match &mut agent {
            Some(agent) => agent.hand_over(child.pid, child.pidfd.as_fd(), listener),
            None => Ok(()),
        })?;
        let console = console.or(sent);
        // Where one fails, the program is killed.
        hooks.map_or(Ok(()), |hooks| hooks.run_poststart())?;
        child.wanted = true;
        Ok(Running { child, console, _namespaces: namespaces })
    }
}

/// A container or process whose program runs. Dropping it does not end the program.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// The master of the terminal, where one was asked for.
    pub console: Option<OwnedFd>,
    _namespaces: Vec<OwnedFd>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl ExitStatus {
    /// The exit code as Docker reports it: 128 and the signal's number for a killed program.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
        }
    }
}

impl Running {
    /// A process that another runtime has made and, by its end, left to this process: the caller has been its next
    /// subreaper.
    pub fn adopt(pid: i32, console: Option<OwnedFd>) -> Result<Self> {
        let what = || format!("process {pid} of the other runtime");
        let no_child = || Error::Setup { message: format!("expected {} to be a child", what()) };
        let pid = Pid::from_raw(pid).ok_or_else(no_child)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).during("open", what())?;
        let seen = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::PidFd(pidfd.as_fd()), seen).map_err(|_| no_child())?;
        Ok(Self { child: Child { pid, pidfd, wanted: true }, console, _namespaces: Vec::new() })
    }

    /// The process id on the host.
    pub fn pid(&self) -> i32 {
        self.child.pid.as_raw_pid()
    }

    /// A handle of the process; readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// Sends a signal by number.
    pub fn kill(&self, signal: i32) -> Result<()> {
        match send_signal(self.pidfd(), signal) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(()),
            result => Ok(result.during("send a signal to", format!("process {}", self.pid()))?),
        }
    }

    /// Waits until the program has ended and takes its status. Some of the container lives until the value is
    /// dropped, its mounts among it: report the end first, then drop.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let status = wait_pidfd(self.pidfd()).during("wait for", format!("process {}", self.pid()))?;
        Ok(exit_status(&status))
    }
}

fn killed() -> Error {
    Error::Setup { message: "its first process was killed".into() }
}

fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Exited(code),
        (None, signal) => ExitStatus::Signaled(signal.unwrap_or(SIGKILL)),
    }
}

/// A process may always be made more likely to be killed, and less likely only down to where it was or with
/// CAP_SYS_RESOURCE: then it stays as it is, which is no reason not to start.
fn set_oom_score(pid: Pid, score: i32) -> Result<()> {
    match write_proc(pid, "oom_score_adj", &score.to_string()) {
        Err(Error::Sys(error)) if error.source.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(score, "the OOM score stays as it is: to lower it needs CAP_SYS_RESOURCE");
            Ok(())
        }
        result => result,
    }
}

fn write_proc(pid: Pid, file: &str, value: &str) -> Result<()> {
    let path = format!("/proc/{}/{file}", pid.as_raw_pid());
    let opened = fs::File::options().write(true).open(&path);
    Ok(opened
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
        .during("write to", &path)?)
}
