//! What the first process of a container does between its clone and its program.
//!
//! The order is the safety: the root filesystem is complete and entered before anything of the image can run.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use carrack_sys::IoContext;
use carrack_sys::interface::loopback_up;
use carrack_sys::mount::{Attributes, Propagation, attach_over_root, set_attributes};
use carrack_sys::process::{namespace, unshare};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};
use rustix::process::DumpableBehavior;
use rustix::thread::CapabilitySet;

use crate::Result;
use crate::cgroup::{Entrances, View};
use crate::channel::{Channel, Signal};
use crate::console::Console;
use crate::devices::{self, PlannedDevice};
use crate::hooks::LaunchHooks;
use crate::masks::{self, Masks};
use crate::mounts::PlannedMount;
use crate::namespaces::Namespaces;
use crate::process::PlannedProcess;
use crate::rootfs::Rootfs;
use crate::standby::Standby;
use crate::sysctl::Sysctls;

/// All that the first process needs, opened and checked by its parent.
#[derive(Debug)]
pub(crate) struct Plan {
    pub namespaces: Namespaces,
    pub mounts: Vec<PlannedMount>,
    pub devices: Vec<PlannedDevice>,
    pub masks: Masks,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub readonly_rootfs: bool,
    /// Of the root, and whether of all mounts below too.
    pub propagation: Option<(Propagation, bool)>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub sysctls: Sysctls,
    pub cgroup: Option<View>,
    pub entrances: Entrances,
    pub process: PlannedProcess,
    pub hooks: Option<LaunchHooks>,
    /// Whether the creator is told that all is set up.
    pub tells_ready: bool,
    pub standby: Option<Standby>,
}

/// Child: becomes the container's program, or says why not.
pub(crate) fn run(mut plan: Plan, rootfs: OwnedFd, channel: Channel) -> (crate::Error, Channel) {
    match plan.set_up(rootfs, &channel) {
        Ok(starter) => plan.process.run(starter.unwrap_or(channel)),
        Err(error) => (error, channel),
    }
}

impl Plan {
    /// Returns when the program may be executed; with the starter's channel when that is another than the creator.
    fn set_up(&mut self, rootfs: OwnedFd, channel: &Channel) -> Result<Option<Channel>> {
        rustix::process::umask(Mode::empty());
        rustix::process::setsid().during("make", "a session")?;
        self.entrances.enter()?;
        self.enter_namespaces(channel)?;
        // Nothing of the runtime can be read or changed by a process of the container from here to the exec.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .during("make undumpable", "the process")?;
        if self.namespaces.has_new(namespace::NETWORK) {
            loopback_up().during("switch on", "the loopback interface")?;
        }
        detach_from_host()?;
        let pivots = self.standby.as_ref().is_none_or(|standby| standby.pivots);
        match &self.hooks {
            None => attach_over_root(rootfs.as_fd())?,
            Some(hooks) => hooks.attach(rootfs.as_fd(), pivots)?,
        }
        let rootfs = Rootfs::new(rootfs);
        let proc = self.sysctls.open_proc()?;
        self.fill(&rootfs, channel)?;
        if let Some(hooks) = &self.hooks {
            channel.mounted()?;
            channel.expect(Signal::HooksRan)?;
            hooks.run_create_hooks()?;
        }
        self.restrict(&rootfs)?;
        enter(&rootfs, pivots)?;
        // After that: the kernel does not make a shared mount the root.
        if let Some((propagation, recursive)) = self.propagation {
            set_attributes(rootfs.as_fd(), Attributes::propagation(propagation), recursive)?;
        }
        self.set_names()?;
        if self.tells_ready {
            self.process.require_program()?;
        }
        let Some(standby) = self.standby.take() else {
            if self.tells_ready {
                channel.ready()?;
            }
            channel.expect(Signal::Start)?;
            self.sysctls.apply(proc.as_ref())?;
            return Ok(None);
        };
        self.sysctls.apply(proc.as_ref())?;
        channel.ready()?;
        standby.wait().map(Some)
    }

    fn enter_namespaces(&mut self, channel: &Channel) -> Result<()> {
        // Files of /proc/self are this process's only as long as it is who it was.
        self.namespaces.make_time()?;
        self.process.label_files = self.process.labels.open()?;
        if self.namespaces.has_new(namespace::USER) {
            channel.expect(Signal::OwnersMapped)?;
        }
        if self.namespaces.has(namespace::USER) {
            become_root()?;
        }
        Ok(())
    }

    /// Mounts, devices, console. Mounts are placed in their order; those from the cgroups on wait for the parent.
    fn fill(&self, rootfs: &Rootfs, channel: &Channel) -> Result<()> {
        let late = self.mounts.iter().position(PlannedMount::needs_cgroup).unwrap_or(self.mounts.len());
        let (early, late) = self.mounts.split_at(late);
        early.iter().try_for_each(|mount| mount.place(rootfs, None))?;
        let dev_is_late = late.iter().any(PlannedMount::is_new_dev);
        if !dev_is_late {
            self.fill_dev(rootfs, channel)?;
        }
        // A cgroup namespace begins at the cgroup of the process that makes it.
        channel.expect(Signal::Placed)?;
        if self.namespaces.has_new(namespace::CGROUP) {
            unshare(namespace::CGROUP).during("make", "a cgroup namespace")?;
        }
        late.iter().try_for_each(|mount| mount.place(rootfs, self.cgroup.as_ref()))?;
        if dev_is_late { self.fill_dev(rootfs, channel) } else { Ok(()) }
    }

    fn fill_dev(&self, rootfs: &Rootfs, channel: &Channel) -> Result<()> {
        // What the host has at a /dev that is bound is the host's.
        let is_bound = self.mounts.iter().any(PlannedMount::is_bound_dev);
        devices::place(rootfs, &self.devices, is_bound)?;
        if self.process.wants_console() {
            let console = Console::open(rootfs, self.process.console_size, self.process.uid)?;
            console.place(rootfs)?;
            channel.send_console(console.master.as_fd())?;
            return console.take();
        }
        self.process.take_streams()
    }

    fn restrict(&mut self, rootfs: &Rootfs) -> Result<()> {
        make_working_directory(rootfs, &self.process.cwd)?;
        masks::make_read_only(rootfs, &self.readonly_paths)?;
        self.masks.apply(rootfs, &self.masked_paths)?;
        let mut attributes = MountAttrFlags::empty();
        attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, self.readonly_rootfs);
        // An image may hold device files. Who may not make a device does not get to use those either.
        let may_make_devices = self.process.grant.bounding.contains(CapabilitySet::MKNOD);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, !may_make_devices);
        set_attributes(rootfs.as_fd(), Attributes::set(attributes), false)?;
        Ok(())
    }

    fn set_names(&self) -> Result<()> {
        if let Some(name) = &self.hostname {
            rustix::system::sethostname(name.as_bytes()).during("set the host name", name)?;
        }
        if let Some(name) = &self.domainname {
            rustix::system::setdomainname(name.as_bytes()).during("set the domain name", name)?;
        }
        Ok(())
    }
}

/// In a user namespace, where only its own root has rights.
pub(crate) fn become_root() -> Result<()> {
    let (uid, gid) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid).during("become", "root of the user namespace")?;
    Ok(rustix::thread::set_thread_res_uid(uid, uid, uid).during("become", "root of the user namespace")?)
}

/// No mount of the container reaches the host, nor the reverse.
fn detach_from_host() -> Result<()> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).during("open", "/")?;
    Ok(set_attributes(root.as_fd(), Attributes::propagation(Propagation::Private), true)?)
}

/// An image need not hold the folder that its config names. On a read-only root it must.
fn make_working_directory(rootfs: &Rootfs, cwd: &Path) -> Result<()> {
    // Its links lead where only the kernel can follow.
    if cwd.starts_with("/proc") {
        return Ok(());
    }
    match rootfs.root().create_dir_all(cwd, 0o755) {
        Err(error) if error.source.kind() != std::io::ErrorKind::ReadOnlyFilesystem => Err(error.into()),
        _ => Ok(()),
    }
}

/// Makes `rootfs` the root and forgets the host's tree. The new root lies over the old one, so the old one ends up
/// over the new one, from where it is taken away: no folder in the image is needed to hold it. Without `pivots`, for
/// hosts whose root is a ramdisk that cannot be exchanged, the old root stays below the new one.
fn enter(rootfs: &Rootfs, pivots: bool) -> Result<()> {
    rustix::process::fchdir(rootfs.as_fd()).during("enter", "the root filesystem")?;
    if !pivots {
        return Ok(rustix::process::chroot(".").during("change", "the root")?);
    }
    rustix::process::pivot_root(".", ".").during("change", "the root")?;
    unmount(".", UnmountFlags::DETACH).during("detach", "the host's root")?;
    rustix::process::chdir("/").during("enter", "/")?;
    Ok(())
}

/// The end of the child.
pub(crate) fn fail((error, channel): (crate::Error, Channel)) -> ! {
    channel.send_error(&error);
    std::process::exit(error.exit_code())
}
