//! A further process in a running container.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use carrack_sys::IoContext;
use carrack_sys::process::{Cloned, clone_process_from, close_all_but, join_namespaces, namespace};
use oci_spec::runtime::{Process, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::process::DumpableBehavior;

use crate::cgroup::{Cgroup, Entrances};
use crate::channel::{Channel, Signal};
use crate::console::Console;
use crate::launch::{self, Init, Running};
use crate::oci::State;
use crate::process::{Inherited, PlannedProcess, Stdio};
use crate::rootfs::Rootfs;
use crate::scheduling::Affinity;
use crate::seccomp::agent::Agent;
use crate::{Error, Landlock, Result, executable, init, namespaces};

/// What is run in which container.
#[derive(Debug)]
pub struct Exec<'a> {
    /// The container's first process. The caller has made sure that it still is that process.
    pub target: BorrowedFd<'a>,
    /// The spec that the container was created from: its namespaces and seccomp profile.
    pub spec: &'a Spec,
    /// The process.
    pub process: &'a Process,
    /// Its standard streams.
    pub stdio: Stdio,
    /// The container's cgroup.
    pub cgroup: Option<&'a Cgroup>,
    /// What a seccomp agent is told of the container.
    pub state: &'a State,
    /// What it keeps of the caller.
    pub inherited: Inherited,
    /// What of the container's files it may reach; `None` is all.
    pub landlock: Option<Landlock>,
}

/// Starts a process in a running container; returns when its program runs, or with the reason why it does not. The
/// caller is a process of one thread, started from [`executable::read_only`].
///
/// A process of the container that may trace others can look into this one from its first moment in the pid namespace
/// (`/proc/PID/root`, `/proc/PID/fd`), whatever is dumpable. So it is born when its root is the container's, and with no
/// descriptor of the host's files.
pub fn exec(exec: Exec<'_>) -> Result<Running> {
    executable::require_read_only()?;
    let Exec { target, spec, process, stdio, cgroup, state, inherited, landlock } = exec;
    let mut planned = PlannedProcess::new(process, spec.linux().as_ref(), stdio, false)?;
    planned.inherited = inherited;
    planned.landlock = landlock.map(Landlock::checked).transpose()?;
    let affinity = Affinity::plan(process.exec_cpu_affinity().as_ref())?;
    let agent = Agent::connect(launch::seccomp(spec), state)?;
    let joined = namespaces::of_container(spec);
    if joined & namespace::MOUNT == 0 {
        return Err(Error::spec("expected a container with a mount namespace"));
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .during("make undumpable", "the process")?;
    let (channel, child_channel) = Channel::pair()?;
    let entrances = Entrances::open(cgroup)?;
    affinity.apply_first()?;
    let v2_folder = cgroup.map(Cgroup::v2_folder).transpose()?.flatten();
    let enter = |own: BorrowedFd<'_>| {
        let kept = [own.as_raw_fd(), child_channel.as_fd().as_raw_fd()];
        enter(target, joined, &mut planned, &entrances, kept).map_err(|error| {
            child_channel.send_error(&error);
            io::Error::other("the process in between could not enter the container")
        })
    };
    match clone_process_from(v2_folder.as_ref().map(AsFd::as_fd), enter, 0, None) {
        Ok(Cloned::Child) => {
            // It was closed with all others.
            std::mem::forget(channel);
            match set_up(joined, &planned, &affinity, &child_channel) {
                Ok(()) => init::fail(planned.run(child_channel)),
                Err(error) => init::fail((error, child_channel)),
            }
        }
        Err(error) => {
            drop(child_channel);
            // What the process in between has said tells more.
            let said = channel.report();
            let none = || Err(error).during("clone", "the process").map_err(Error::from);
            said.and_then(|_| none())
        }
        Ok(Cloned::Parent { pid, pidfd }) => {
            drop(child_channel);
            let init = Init::new(pid, pidfd, channel, planned.rlimits.clamped, agent);
            init.place(process.oom_score_adj())?;
            init.start()
        }
    }
}

/// Process in between: goes where the container is, and leaves all of the host's behind.
fn enter(
    target: BorrowedFd<'_>,
    joined: u64,
    process: &mut PlannedProcess,
    entrances: &Entrances,
    sockets: [RawFd; 2],
) -> Result<()> {
    process.label_files = process.labels.open()?;
    entrances.enter()?;
    join_namespaces(target, joined).during("join", "the container's namespaces")?;
    let kept = [&sockets, process.descriptors().as_slice()].concat();
    Ok(close_all_but(&kept).during("close", "the descriptors")?)
}

/// Child: becomes one of the container's.
fn set_up(joined: u64, process: &PlannedProcess, affinity: &Affinity, channel: &Channel) -> Result<()> {
    rustix::process::setsid().during("make", "a session")?;
    channel.expect(Signal::Placed)?;
    affinity.apply_last()?;
    if joined & namespace::USER != 0 {
        init::become_root()?;
    }
    if process.wants_console() {
        let console = Console::open(&root()?, process.console_size, process.uid)?;
        channel.send_console(console.master.as_fd())?;
        console.take()?;
    } else {
        process.take_streams()?;
    }
    channel.expect(Signal::Start)
}

fn root() -> Result<Rootfs> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root: OwnedFd = rustix::fs::open("/", flags, Mode::empty()).during("open", "/")?;
    Ok(Rootfs::new(root))
}
