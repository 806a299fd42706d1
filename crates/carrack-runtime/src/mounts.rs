//! The mounts of a container: opened and checked on the host as far as the host is needed, then placed by the
//! container's first process.
//!
//! No path is used twice: what was opened is what is mounted, and where is a descriptor too.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::mount::{
    Attributes, Filesystem, Propagation, attach, clone_path, map_owners, set_attributes,
};
use carrack_sys::process::namespace;
use carrack_sys::rooted::Root;
use oci_spec::runtime::{Mount, Spec};
use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::cgroup::{Shown, View};
use crate::labels::MountLabel;
use crate::mount_options::Options;
use crate::namespaces::Namespaces;
use crate::owners::Mappings;
use crate::rootfs::{Kind, Rootfs};
use crate::{Error, Result, copy_up, labels};

/// What sources are opened for: the container as far as its mounts depend on it.
struct Context<'a> {
    spec: &'a Spec,
    namespaces: &'a Namespaces,
    /// A user namespace with the container's own mappings, once a mount has needed it.
    own_mappings: Option<OwnedFd>,
}

/// One mount, ready to be placed.
#[derive(Debug)]
pub(crate) struct PlannedMount {
    destination: PathBuf,
    what: What,
    attributes: MountAttrFlags,
    propagation: Vec<(Propagation, bool)>,
}

#[derive(Debug)]
enum What {
    /// A detached copy of a file or folder of the host.
    Tree(OwnedFd, Kind),
    /// A new filesystem.
    New(NewFilesystem),
    /// The cgroup hierarchies that the container is in; the label is that of the folder that they are in.
    Cgroup(MountLabel),
}

#[derive(Debug)]
struct NewFilesystem {
    kind: String,
    source: Option<String>,
    options: Vec<String>,
    label: MountLabel,
    /// Whether it begins with what the image has there.
    copy_up: bool,
    /// What the host has of the kind, where the container's user namespace may not mount one of its own.
    of_host: Option<OwnedFd>,
}

/// Opens the sources of all mounts of `spec`.
pub(crate) fn plan(spec: &Spec, namespaces: &Namespaces) -> Result<Vec<PlannedMount>> {
    let mut context = Context { spec, namespaces, own_mappings: None };
    spec.mounts().iter().flatten().map(|mount| PlannedMount::new(mount, &mut context)).collect()
}

impl PlannedMount {
    fn new(mount: &Mount, context: &mut Context<'_>) -> Result<Self> {
        // A relative one counts from the root (config.md, "Mounts").
        let destination = Path::new("/").join(mount.destination());
        let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        if !destination.is_absolute() || !destination.components().all(plain) {
            let shown = destination.display();
            return Err(Error::spec(format!(
                "expected an absolute mount destination without .., got {shown}"
            )));
        }
        if destination.components().count() < 2 {
            return Err(Error::spec("expected a mount destination below /, got the root itself"));
        }
        let options = Options::parse(mount)?;
        let kind = mount.typ().as_deref().unwrap_or("none");
        let has_mappings = mount.uid_mappings().is_some() || mount.gid_mappings().is_some();
        if has_mappings && !options.bind {
            let shown = destination.display();
            return Err(Error::spec(format!(
                "the mount {shown} cannot have mapped owners, it is no bind mount"
            )));
        }
        let attributes = options.plain.of_new();
        let mut propagation = Vec::new();
        let what = match kind {
            _ if options.bind => context.open_source(mount, &options)?,
            "cgroup" | "cgroup2" => What::Cgroup(context.label("tmpfs", &[])?),
            _ => {
                propagation = options.propagation.clone();
                What::New(context.new_filesystem(mount, kind, options)?)
            }
        };
        check_destination(&destination, &what, kind)?;
        Ok(Self { destination, what, attributes, propagation })
    }

    /// Whether the container's `/dev` is a folder of the host.
    pub fn is_bound_dev(&self) -> bool {
        self.destination == Path::new("/dev") && matches!(self.what, What::Tree(..))
    }

    /// Of the filesystem as a whole.
    pub fn attributes(&self) -> MountAttrFlags {
        self.attributes
    }

    /// Whether it can be placed only after the process is in its cgroup.
    pub fn needs_cgroup(&self) -> bool {
        matches!(self.what, What::Cgroup(_))
    }

    /// Whether the container gets its `/dev` by this mount as an empty filesystem.
    pub fn is_new_dev(&self) -> bool {
        self.destination == Path::new("/dev") && matches!(self.what, What::New(..))
    }

    /// Child: makes the filesystem where it is a new one, and attaches it below `rootfs`.
    pub fn place(&self, rootfs: &Rootfs, cgroup: Option<&View>) -> Result<()> {
        match &self.what {
            What::Tree(mount, kind) => self.attach(rootfs, mount, *kind),
            What::New(new) => self.place_new(rootfs, new),
            What::Cgroup(label) => match cgroup {
                Some(View { v1, v2: Some(shown) }) if v1.is_empty() => {
                    // As in other runtimes, who may only look sees all of the host, if that is its namespace.
                    let is_read_only = self.attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY);
                    let part = shown.part.as_ref().filter(|_| !is_read_only);
                    self.attach(rootfs, &self.hierarchy(part, || Filesystem::new("cgroup2"))?, Kind::Folder)
                }
                Some(view) => self.place_hierarchies(rootfs, view, label),
                None => Ok(()),
            },
        }
    }

    fn place_new(&self, rootfs: &Rootfs, new: &NewFilesystem) -> Result<()> {
        let made = match (new.mount(self.attributes, new.copy_up), &new.of_host) {
            (Err(error), Some(of_host)) if is_refused(&error) => {
                set_attributes(of_host.as_fd(), Attributes::set(self.attributes), false)?;
                return self.attach(rootfs, of_host, Kind::Folder);
            }
            (made, _) => made?,
        };
        if new.copy_up {
            if let Some(image) =
                rootfs.find(&self.destination, crate::rootfs::Links::at(&self.destination))?
            {
                copy_up::copy(image.as_fd(), made.as_fd(), &self.destination)?;
            }
            set_attributes(made.as_fd(), Attributes::set(self.attributes), false)?;
        }
        if let Some(label) = &new.label.of_root {
            let made =
                Root::from_fd(made.try_clone().during("duplicate", &self.destination)?, &self.destination);
            made.at("")?.set_xattr(labels::SELINUX_ATTRIBUTE.as_ref(), format!("{label}\0").as_bytes())?;
        }
        for (propagation, recursive) in &self.propagation {
            set_attributes(made.as_fd(), Attributes::propagation(*propagation), *recursive)?;
        }
        self.attach(rootfs, &made, Kind::Folder)
    }

    fn attach(&self, rootfs: &Rootfs, mount: &OwnedFd, kind: Kind) -> Result<()> {
        let target = rootfs.find_or_make(&self.destination, kind)?;
        self.check_target(&target)?;
        Ok(attach(mount.as_fd(), target.as_fd())?)
    }

    /// A link of the image may lead into /proc, where the mount would take the place of files that the runtime and
    /// the kernel's checks rely on (CVE-2019-16884, CVE-2025-52881).
    fn check_target(&self, target: &OwnedFd) -> Result<()> {
        let filesystem = fstatfs(target).during("examine", &self.destination)?.f_type;
        if filesystem == rustix::fs::PROC_SUPER_MAGIC && !self.destination.starts_with("/proc") {
            let shown = self.destination.display();
            return Err(Error::spec(format!(
                "expected a mount beside /proc, got {shown}, which leads into /proc"
            )));
        }
        Ok(())
    }

    /// A part of the host's mount of a hierarchy, or one of the container's own.
    fn hierarchy(
        &self,
        part: Option<&OwnedFd>,
        new: impl FnOnce() -> carrack_sys::Result<Filesystem>,
    ) -> Result<OwnedFd> {
        match part {
            None => Ok(new()?.mount(self.attributes)?),
            Some(part) => Ok(part.try_clone().during("duplicate", "a mount of cgroups")?),
        }
    }

    /// A folder with one mount for each hierarchy, as hosts with cgroup v1 have it at /sys/fs/cgroup.
    fn place_hierarchies(&self, rootfs: &Rootfs, view: &View, label: &MountLabel) -> Result<()> {
        let mut folder = Filesystem::new("tmpfs")?.option("mode", "755")?;
        if let Some(option) = &label.option {
            folder = with_option(folder, option)?;
        }
        let folder = folder.mount(self.attributes - MountAttrFlags::MOUNT_ATTR_RDONLY)?;
        self.attach(rootfs, &folder, Kind::Folder)?;
        let folder = Rootfs::new(folder);
        for Shown { controllers, part } in &view.v1 {
            let new = || controllers.split(',').try_fold(Filesystem::new("cgroup")?, Filesystem::flag);
            attach_below(&folder, controllers, &self.hierarchy(part.as_ref(), new)?)?;
            if controllers.contains(',') {
                link_names(folder.root(), controllers)?;
            }
        }
        if let Some(Shown { part, .. }) = &view.v2 {
            let mount = self.hierarchy(part.as_ref(), || Filesystem::new("cgroup2"))?;
            attach_below(&folder, "unified", &mount)?;
        }
        let read_only = self.attributes & MountAttrFlags::MOUNT_ATTR_RDONLY;
        Ok(set_attributes(folder.as_fd(), Attributes::set(read_only), false)?)
    }
}

/// A copy of the mount at `source`. One that was made in the namespace of another container cannot be copied from here:
/// it is itself what is mounted.
fn source_tree(source: &Path, recursive: bool) -> Result<OwnedFd> {
    let is_descriptor = source.starts_with("/proc/self/fd");
    match clone_path(source, recursive) {
        Err(error) if is_descriptor && error.source.kind() == std::io::ErrorKind::InvalidInput => {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            Ok(rustix::fs::open(source, flags, Mode::empty()).during("open", source)?)
        }
        tree => Ok(tree?),
    }
}

fn attach_below(folder: &Rootfs, name: &str, mount: &OwnedFd) -> Result<()> {
    let target = folder.find_or_make(Path::new(name), Kind::Folder)?;
    Ok(attach(mount.as_fd(), target.as_fd())?)
}

/// Programs look for "cpu" where the hierarchy is called "cpu,cpuacct".
fn link_names(folder: &Root, controllers: &str) -> Result<()> {
    for name in controllers.split(',') {
        folder.at(name)?.create_symlink(controllers)?;
    }
    Ok(())
}

impl NewFilesystem {
    /// `later`: the attributes are set when the filesystem has been filled.
    fn mount(&self, attributes: MountAttrFlags, later: bool) -> carrack_sys::Result<OwnedFd> {
        let mut filesystem = Filesystem::new(&self.kind)?;
        if let Some(source) = &self.source {
            filesystem = filesystem.option("source", source)?;
        }
        for option in self.options.iter().chain(&self.label.option) {
            filesystem = with_option(filesystem, option)?;
        }
        filesystem.mount(if later { MountAttrFlags::empty() } else { attributes })
    }
}

fn with_option(filesystem: Filesystem, option: &str) -> carrack_sys::Result<Filesystem> {
    match option.split_once('=') {
        Some((key, value)) => filesystem.option(key, value),
        None => filesystem.flag(option),
    }
}

fn is_refused(error: &carrack_sys::Error) -> bool {
    error.source.kind() == std::io::ErrorKind::PermissionDenied
}

impl Context<'_> {
    fn new_filesystem(&self, mount: &Mount, kind: &str, options: Options) -> Result<NewFilesystem> {
        if options.copy_up && kind != "tmpfs" {
            let shown = mount.destination().display();
            return Err(Error::spec(format!("the mount {shown} cannot have tmpcopyup, it is a {kind}")));
        }
        let source = mount.source().as_deref().and_then(Path::to_str).map(str::to_owned);
        Ok(NewFilesystem {
            kind: kind.to_owned(),
            source,
            label: self.label(kind, &options.data)?,
            options: options.data,
            copy_up: options.copy_up,
            of_host: self.of_host(kind)?,
        })
    }

    fn label(&self, kind: &str, options: &[String]) -> Result<MountLabel> {
        let linux = self.spec.linux().as_ref();
        let label = linux.and_then(|linux| linux.mount_label().as_deref());
        MountLabel::of(kind, label.unwrap_or_default(), options)
    }

    /// A user namespace may mount these only with the namespace that they show, if that belongs to it.
    fn of_host(&self, kind: &str) -> Result<Option<OwnedFd>> {
        let (flag, path) = match kind {
            "sysfs" => (namespace::NETWORK, "/sys"),
            "proc" => (namespace::PID, "/proc"),
            "mqueue" => (namespace::IPC, "/dev/mqueue"),
            _ => return Ok(None),
        };
        // Another container's processes are not those that the host's /proc shows.
        let is_needed = self.namespaces.has(namespace::USER)
            && !self.namespaces.has_new(flag)
            && (kind != "proc" || !self.namespaces.has(flag));
        if !is_needed {
            return Ok(None);
        }
        let Ok(tree) = clone_path(Path::new(path), false) else { return Ok(None) };
        set_attributes(tree.as_fd(), Attributes::propagation(Propagation::Private), true)?;
        Ok(Some(tree))
    }

    /// Opens the source of a bind mount as a detached mount with its final attributes.
    fn open_source(&mut self, mount: &Mount, options: &Options) -> Result<What> {
        let destination = mount.destination().display();
        let source = mount.source().as_deref();
        let source =
            source.ok_or_else(|| Error::spec(format!("the bind mount {destination} has no source")))?;
        let tree = source_tree(source, options.rbind)?;
        if let Some(recursive) = self.map_owners(mount, options, tree.as_fd())? {
            tracing::debug!(%destination, recursive, "mapped the owners of a mount");
        }
        if !options.plain.is_empty() {
            set_attributes(tree.as_fd(), options.plain.attributes(), false)?;
        }
        if !options.recursive.is_empty() {
            set_attributes(tree.as_fd(), options.recursive.attributes(), true)?;
        }
        let default = [(Propagation::Private, true)];
        let asked = if options.propagation.is_empty() { &default[..] } else { &options.propagation };
        for (propagation, recursive) in asked {
            set_attributes(tree.as_fd(), Attributes::propagation(*propagation), *recursive)?;
        }
        let mode = fstat(&tree).during("examine", source)?.st_mode;
        let kind = if FileType::from_raw_mode(mode).is_dir() { Kind::Folder } else { Kind::File };
        Ok(What::Tree(tree, kind))
    }

    /// By the mappings of the mount, else by those of the container. Whether recursively; `None` if not at all.
    fn map_owners(&mut self, mount: &Mount, options: &Options, tree: BorrowedFd<'_>) -> Result<Option<bool>> {
        let destination = mount.destination().display();
        let own = match (mount.uid_mappings(), mount.gid_mappings()) {
            (None, None) => None,
            (Some(uids), Some(gids)) => {
                Some(Mappings { uids: uids.clone(), gids: gids.clone() }.namespace()?)
            }
            _ => {
                return Err(Error::spec(format!(
                    "the mount {destination} needs mappings of both users and groups, or none"
                )));
            }
        };
        let Some(recursive) = options.mapped.or(own.as_ref().map(|_| false)) else { return Ok(None) };
        let result = match &own {
            Some(own) => map_owners(tree, own.as_fd(), recursive),
            None => map_owners(tree, self.container_mappings(mount)?, recursive),
        };
        match result {
            Err(error) if error.source.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                Err(Error::spec(format!(
                    "the owners of the mount {destination} cannot be mapped: its filesystem does not support that"
                )))
            }
            result => Ok(result.map(|()| Some(recursive))?),
        }
    }

    fn container_mappings(&mut self, mount: &Mount) -> Result<BorrowedFd<'_>> {
        if let Some(joined) = self.namespaces.joined(namespace::USER) {
            return Ok(joined);
        }
        if !self.namespaces.has_new(namespace::USER) {
            let shown = mount.destination().display();
            return Err(Error::spec(format!(
                "the mount {shown} needs mappings of its own, as the container has no user namespace"
            )));
        }
        if self.own_mappings.is_none() {
            self.own_mappings = Some(Mappings::of(self.spec).namespace()?);
        }
        Ok(self.own_mappings.as_ref().expect("it was just made").as_fd())
    }
}

/// Over or inside /proc only procfs itself and the files that lxcfs replaces: a false /proc would make the runtime's
/// own writes to it go astray.
fn check_destination(destination: &Path, what: &What, kind: &str) -> Result<()> {
    const REPLACEABLE: [&str; 8] =
        ["cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime"];
    let Ok(inside) = destination.strip_prefix("/proc") else { return Ok(()) };
    let allowed = if inside == Path::new("") {
        match what {
            What::Tree(tree, _) => {
                fstatfs(tree).during("examine", "a mount")?.f_type == rustix::fs::PROC_SUPER_MAGIC
            }
            _ => kind == "proc",
        }
    } else {
        REPLACEABLE.iter().any(|file| inside == Path::new(file))
    };
    if allowed {
        Ok(())
    } else {
        Err(Error::spec(format!("{} cannot be mounted over: it is part of /proc", destination.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(destination: &str, kind: &str, options: &[&str]) -> Result<PlannedMount> {
        let mut mount = Mount::default();
        mount.set_destination(destination.into()).set_typ(Some(kind.into())).set_source(Some("/etc".into()));
        mount.set_options(Some(options.iter().map(ToString::to_string).collect()));
        let spec = Spec::default();
        let namespaces = Namespaces::default();
        let mut context = Context { spec: &spec, namespaces: &namespaces, own_mappings: None };
        PlannedMount::new(&mount, &mut context)
    }

    #[test]
    fn destinations_with_parent_folders_or_over_proc_are_refused() {
        for (destination, kind) in [
            ("../a", "tmpfs"),
            ("/a/../b", "tmpfs"),
            ("/proc", "tmpfs"),
            ("/proc", "bind"),
            ("/proc/self", "bind"),
        ] {
            let result = mount(destination, kind, &[]);
            assert!(matches!(result, Err(Error::Spec { .. })), "{destination} {kind}");
        }
        assert_eq!(mount("a", "tmpfs", &[]).unwrap().destination, Path::new("/a"));
        assert!(mount("/proc", "proc", &[]).is_ok());
        assert!(mount("/proc/meminfo", "bind", &[]).is_ok());
    }
}
