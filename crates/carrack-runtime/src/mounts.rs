//! The mounts of a container: opened and checked on the host as far as the host is needed, then placed by the
//! container's first process.
//!
//! No path is used twice: what was opened is what is mounted, and where is a descriptor too.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::mount::{Attributes, Filesystem, Propagation, attach, clone_path, set_attributes};
use carrack_sys::rooted::Root;
use oci_spec::runtime::{Mount, Spec};
use rustix::fs::{FileType, fstat, fstatfs};
use rustix::mount::MountAttrFlags;

use crate::cgroup::View;
use crate::rootfs::{Kind, Rootfs};
use crate::{Error, Result};

/// One mount, ready to be placed.
#[derive(Debug)]
pub(crate) struct PlannedMount {
    destination: PathBuf,
    what: What,
    attributes: MountAttrFlags,
}

#[derive(Debug)]
enum What {
    /// A detached copy of a file or folder of the host.
    Tree(OwnedFd, Kind),
    /// A new filesystem: type and options.
    New(String, Vec<String>),
    /// The cgroup hierarchies that the container is in.
    Cgroup,
}

/// Opens the sources of all mounts of `spec`.
pub(crate) fn plan(spec: &Spec) -> Result<Vec<PlannedMount>> {
    spec.mounts().iter().flatten().map(PlannedMount::new).collect()
}

impl PlannedMount {
    fn new(mount: &Mount) -> Result<Self> {
        let destination = mount.destination().clone();
        let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        if !destination.is_absolute() || !destination.components().all(plain) {
            let shown = destination.display();
            return Err(Error::spec(format!(
                "expected an absolute mount destination without .., got {shown}"
            )));
        }
        if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
            return Err(Error::spec(format!(
                "mappings of the mount {} are not supported",
                destination.display()
            )));
        }
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        let kind = mount.typ().as_deref().unwrap_or("none");
        let what = match kind {
            _ if options.bind || kind == "bind" => open_source(mount, &options)?,
            "cgroup" | "cgroup2" => What::Cgroup,
            _ => What::New(kind.to_owned(), options.data),
        };
        check_destination(&destination, &what, kind)?;
        Ok(Self { destination, what, attributes: options.set })
    }

    /// Whether it can be placed only after the process is in its cgroup.
    pub fn needs_cgroup(&self) -> bool {
        matches!(self.what, What::Cgroup)
    }

    /// Whether the container gets its `/dev` by this mount as an empty filesystem.
    pub fn is_new_dev(&self) -> bool {
        self.destination == Path::new("/dev") && matches!(self.what, What::New(..))
    }

    /// Child: makes the filesystem where it is a new one, and attaches it below `rootfs`.
    pub fn place(&self, rootfs: &Rootfs, cgroup: Option<&View>) -> Result<()> {
        match &self.what {
            What::Tree(mount, kind) => self.attach(rootfs, mount, *kind),
            What::New(kind, data) => {
                let filesystem = data.iter().try_fold(Filesystem::new(kind)?, |filesystem, option| {
                    match option.split_once('=') {
                        Some((key, value)) => filesystem.option(key, value),
                        None => filesystem.flag(option),
                    }
                })?;
                self.attach(rootfs, &filesystem.mount(self.attributes)?, Kind::Folder)
            }
            What::Cgroup => match cgroup {
                Some(View { v1, v2: true }) if v1.is_empty() => {
                    let mount = Filesystem::new("cgroup2")?.mount(self.attributes)?;
                    self.attach(rootfs, &mount, Kind::Folder)
                }
                Some(view) => self.place_hierarchies(rootfs, view),
                None => Ok(()),
            },
        }
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

    /// A folder with one mount for each hierarchy, as hosts with cgroup v1 have it at /sys/fs/cgroup.
    fn place_hierarchies(&self, rootfs: &Rootfs, view: &View) -> Result<()> {
        let folder = Filesystem::new("tmpfs")?.option("mode", "755")?;
        let folder = folder.mount(self.attributes - MountAttrFlags::MOUNT_ATTR_RDONLY)?;
        self.attach(rootfs, &folder, Kind::Folder)?;
        let folder = Rootfs::new(folder);
        for controllers in &view.v1 {
            let filesystem = Filesystem::new("cgroup")?;
            let filesystem = controllers.split(',').try_fold(filesystem, Filesystem::flag)?;
            attach_below(&folder, controllers, filesystem.mount(self.attributes)?)?;
            if controllers.contains(',') {
                link_names(folder.root(), controllers)?;
            }
        }
        if view.v2 {
            attach_below(&folder, "unified", Filesystem::new("cgroup2")?.mount(self.attributes)?)?;
        }
        let read_only = self.attributes & MountAttrFlags::MOUNT_ATTR_RDONLY;
        Ok(set_attributes(folder.as_fd(), Attributes::set(read_only), false)?)
    }
}

fn attach_below(folder: &Rootfs, name: &str, mount: OwnedFd) -> Result<()> {
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

/// Opens the source of a bind mount as a detached mount with its final attributes.
fn open_source(mount: &Mount, options: &Options) -> Result<What> {
    let destination = mount.destination().display();
    let source = mount.source().as_deref();
    let source = source.ok_or_else(|| Error::spec(format!("the bind mount {destination} has no source")))?;
    let tree = clone_path(source, options.recursive)?;
    let clear_atime =
        if (options.set | options.clear).intersects(ATIME) { ATIME } else { MountAttrFlags::empty() };
    let attributes = Attributes {
        set: options.set,
        clear: options.clear | clear_atime,
        propagation: Some(options.propagation.unwrap_or(Propagation::Private)),
    };
    set_attributes(tree.as_fd(), attributes, true)?;
    let mode = fstat(&tree).during("examine", source)?.st_mode;
    let kind = if FileType::from_raw_mode(mode).is_dir() { Kind::Folder } else { Kind::File };
    Ok(What::Tree(tree, kind))
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

/// The three settings of access times; relatime is zero.
const ATIME: MountAttrFlags = MountAttrFlags::MOUNT_ATTR__ATIME;

/// Mount options of the spec, sorted by what they change.
#[derive(Debug)]
struct Options {
    set: MountAttrFlags,
    clear: MountAttrFlags,
    propagation: Option<Propagation>,
    bind: bool,
    recursive: bool,
    data: Vec<String>,
}

impl Options {
    fn parse(texts: &[String]) -> Self {
        let empty = MountAttrFlags::empty();
        let mut options = Self {
            set: empty,
            clear: empty,
            propagation: None,
            bind: false,
            recursive: false,
            data: Vec::new(),
        };
        for text in texts {
            if let Some((flag, set)) = attribute(text) {
                // The last word on an attribute counts.
                options.set.set(flag, set);
                options.clear.set(flag, !set);
                continue;
            }
            match text.as_str() {
                "bind" => options.bind = true,
                "rbind" => (options.bind, options.recursive) = (true, true),
                "private" | "rprivate" => options.propagation = Some(Propagation::Private),
                "slave" | "rslave" => options.propagation = Some(Propagation::Slave),
                "shared" | "rshared" => options.propagation = Some(Propagation::Shared),
                "unbindable" | "runbindable" => options.propagation = Some(Propagation::Unbindable),
                "defaults" | "async" | "relatime" | "norelatime" | "z" | "Z" => {}
                _ => options.data.push(text.clone()),
            }
        }
        options
    }
}

/// The attribute that an option sets or clears. Read-only always holds for the mounts below as well.
fn attribute(option: &str) -> Option<(MountAttrFlags, bool)> {
    Some(match option {
        "ro" | "rro" => (MountAttrFlags::MOUNT_ATTR_RDONLY, true),
        "rw" | "rrw" => (MountAttrFlags::MOUNT_ATTR_RDONLY, false),
        "nosuid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, true),
        "suid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, false),
        "nodev" => (MountAttrFlags::MOUNT_ATTR_NODEV, true),
        "dev" => (MountAttrFlags::MOUNT_ATTR_NODEV, false),
        "noexec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, true),
        "exec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, false),
        "noatime" => (MountAttrFlags::MOUNT_ATTR_NOATIME, true),
        "atime" => (MountAttrFlags::MOUNT_ATTR_NOATIME, false),
        "strictatime" => (MountAttrFlags::MOUNT_ATTR_STRICTATIME, true),
        "nostrictatime" => (MountAttrFlags::MOUNT_ATTR_STRICTATIME, false),
        "nodiratime" => (MountAttrFlags::MOUNT_ATTR_NODIRATIME, true),
        "diratime" => (MountAttrFlags::MOUNT_ATTR_NODIRATIME, false),
        "nosymfollow" => (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, true),
        "symfollow" => (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, false),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(destination: &str, kind: &str, options: &[&str]) -> Result<PlannedMount> {
        let mut mount = Mount::default();
        mount.set_destination(destination.into()).set_typ(Some(kind.into())).set_source(Some("/etc".into()));
        mount.set_options(Some(options.iter().map(ToString::to_string).collect()));
        PlannedMount::new(&mount)
    }

    #[test]
    fn the_last_option_on_an_attribute_counts() {
        let options = ["ro", "nosuid", "rw", "size=1k"].map(str::to_owned);
        let options = Options::parse(&options);
        assert_eq!(options.set, MountAttrFlags::MOUNT_ATTR_NOSUID);
        assert_eq!(options.clear, MountAttrFlags::MOUNT_ATTR_RDONLY);
        assert_eq!(options.data, ["size=1k"]);
    }

    #[test]
    fn destinations_with_parent_folders_or_over_proc_are_refused() {
        for (destination, kind) in [
            ("a", "tmpfs"),
            ("/a/../b", "tmpfs"),
            ("/proc", "tmpfs"),
            ("/proc", "bind"),
            ("/proc/self", "bind"),
        ] {
            let result = mount(destination, kind, &[]);
            assert!(matches!(result, Err(Error::Spec { .. })), "{destination} {kind}");
        }
        assert!(mount("/proc", "proc", &[]).is_ok());
        assert!(mount("/proc/meminfo", "bind", &[]).is_ok());
    }
}
