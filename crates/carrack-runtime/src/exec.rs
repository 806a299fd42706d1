//! A further process in a running container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use carrack_sys::IoContext;
use carrack_sys::process::{Cloned, clone_process, join_namespaces, namespace};
use oci_spec::runtime::{Process, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::process::DumpableBehavior;

use crate::cgroup::{Cgroup, Entrances};
use crate::channel::{Channel, Signal};
use crate::console::Console;
use crate::launch::{Init, Running};
use crate::process::{PlannedProcess, Stdio};
use crate::rootfs::Rootfs;
use crate::{Error, Result, executable, init, namespaces};

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
}

/// Starts a process in a running container; returns when its program runs, or with the reason why it does not.
///
/// Changes the pid namespace that later children of the caller are born in: the caller is a process of one thread
/// that does nothing else, started from [`executable::read_only`].
pub fn exec(exec: Exec<'_>) -> Result<Running> {
    executable::require_read_only()?;
    let Exec { target, spec, process, stdio, cgroup } = exec;
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let planned = PlannedProcess::new(process, seccomp, stdio, false)?;
    let joined = namespaces::of_container(spec);
    if joined & namespace::MOUNT == 0 {
        return Err(Error::spec("expected a container with a mount namespace"));
    }
    // The child is visible to the container from its first moment.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .during("make undumpable", "the process")?;
    if joined & namespace::PID != 0 {
        join_namespaces(target, namespace::PID).during("join", "the container's pid namespace")?;
    }
    let (channel, child_channel) = Channel::pair()?;
    let entrances = Entrances::open(cgroup)?;
    let v2_folder = cgroup.map(Cgroup::v2_folder).transpose()?.flatten();
    match clone_process(0, v2_folder.as_ref().map(AsFd::as_fd)).during("clone", "the process")? {
        Cloned::Child => {
            drop(channel);
            let done = entrances
                .enter()
                .and_then(|()| set_up(target, joined & !namespace::PID, &planned, &child_channel));
            match done {
                Ok(()) => init::fail(planned.run(child_channel)),
                Err(error) => init::fail((error, child_channel)),
            }
        }
        Cloned::Parent { pid, pidfd } => {
            drop(child_channel);
            let init = Init::new(pid, pidfd, channel, planned.rlimits.clamped);
            init.place(process.oom_score_adj())?;
            init.start()
        }
    }
}

/// Child: goes where the container is.
fn set_up(target: BorrowedFd<'_>, joined: u64, process: &PlannedProcess, channel: &Channel) -> Result<()> {
    rustix::process::setsid().during("make", "a session")?;
    channel.expect(Signal::Placed)?;
    join_namespaces(target, joined).during("join", "the container's namespaces")?;
    if joined & namespace::USER != 0 {
        let (uid, gid) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
        rustix::thread::set_thread_res_gid(gid, gid, gid).during("become", "root of the user namespace")?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).during("become", "root of the user namespace")?;
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
