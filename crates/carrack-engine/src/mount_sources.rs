//! Opens what a container's mounts show, at each start.
//!
//! Invariant: a path of the host is used once, to open what is there; all that follows (labels, owners, an upper
//! folder, the mount itself) goes through that descriptor. What a volume or an image holds is resolved below it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_container::{
    Contexts, HostSettings, MountDepth, MountPoint, MountSource, OwnerMap, TmpfsMount, Volume,
};
use carrack_image::Image;
use carrack_runtime::User;
use carrack_snapshot::{Opening, SnapshotKey};
use carrack_sys::mount::{Filesystem, clone_file};
use carrack_sys::rooted::Root;
use carrack_sys::{IoContext, atomic, tree};
use oci_spec::runtime::{LinuxIdMappingBuilder, Mount};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::mounts::{is_recursive, require_source};
use crate::relabel::{self, refuse_system_folder};
use crate::volumes::{VolumeContent, volume_content};
use crate::{Engine, Error, Result, selinux};

/// Mounts of a user's, ready for the runtime, and what their sources are open by.
#[derive(Default)]
pub(crate) struct OpenedMounts {
    mounts: Vec<Mount>,
    /// Open as long as the runtime may need them.
    sources: Vec<OwnedFd>,
}

impl OpenedMounts {
    /// The mounts; a source that is open is named by its entry in procfs, which holds as long as this lives.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }
}

/// For whom mounts are opened.
struct OpeningMounts<'a> {
    engine: &'a Engine,
    id: &'a str,
    user: &'a User,
    contexts: Option<&'a Contexts>,
    opened: OpenedMounts,
}

impl Engine {
    /// Opens the mounts of the container `id`, whose program runs as `user`.
    pub(crate) fn open_mounts(&self, id: &str, host: &HostSettings, user: &User) -> Result<OpenedMounts> {
        let contexts = selinux::in_force(&host.security);
        let mut opening = OpeningMounts { engine: self, id, user, contexts, opened: OpenedMounts::default() };
        for (number, point) in host.mounts.points.iter().enumerate() {
            opening.open(point, number)?;
        }
        Ok(opening.opened)
    }

    /// Opens what a mount point shows while the container does not run; nothing for what exists only while it does,
    /// and where a file of the host is missing.
    pub(crate) fn open_source(&self, point: &MountPoint) -> Result<Option<OwnedFd>> {
        let open_path = |path: &Path| match open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            source => Ok(Some(source.during("open", path)?)),
        };
        match &point.source {
            MountSource::Bind { path } => open_path(path),
            MountSource::Image { image } => self.open_image(image, point.subpath.as_deref(), None).map(Some),
            MountSource::Volume { name, .. } => {
                let volume = self.volumes.get(&name.parse()?)?;
                match volume_content(&volume.record)? {
                    VolumeContent::Tmpfs(_) => Ok(None),
                    VolumeContent::Bind { path, .. } => open_path(&path),
                    VolumeContent::Data => open_data(&volume, point).map(Some),
                }
            }
            MountSource::Glob { .. } | MountSource::Tmpfs { .. } | MountSource::Devpts { .. } => Ok(None),
        }
    }

    /// The files of an image: the mount lives on when its snapshot is gone.
    fn open_image(&self, id: &str, subpath: Option<&Path>, contexts: Option<&Contexts>) -> Result<OwnedFd> {
        let _operation = self.operation()?;
        let image = Image::load(&self.content, &self.images.find(id)?.record.manifest)?;
        let top = self.ensure_image(&image)?;
        let top = top.ok_or_else(|| Error::refused("the image has no layers", "there is nothing to see"))?;
        let key = SnapshotKey::unique("image-mount");
        let view = self.snapshots.view(&key, &top).map_err(Error::from);
        let opened = view.and_then(|view| selinux::open_labelled(&view, contexts, Opening::default()));
        self.discard_snapshot(&key)?;
        match subpath {
            Some(subpath) => {
                let root = Root::from_fd(opened?, id);
                let part = root.open_path(subpath)?;
                // A detached mount ends with its last descriptor, which a path below it is not.
                Ok(clone_file(part.as_fd(), false)?)
            }
            None => opened,
        }
    }
}

/// The content of a volume, or a part of it: whatever links the volume holds, they lead nowhere else.
fn open_data(volume: &Volume, point: &MountPoint) -> Result<OwnedFd> {
    let data = Root::open(&volume.data())?;
    match &point.subpath {
        Some(subpath) => Ok(data.open_path(subpath)?),
        None => Ok(data.into()),
    }
}

impl OpeningMounts<'_> {
    fn open(&mut self, point: &MountPoint, number: usize) -> Result<()> {
        let destination = &point.destination;
        let source = match &point.source {
            MountSource::Tmpfs { options } => {
                let mut options = options.clone();
                if point.chown {
                    options.extend([format!("uid={}", self.user.uid), format!("gid={}", self.user.gid)]);
                }
                return self.add_tmpfs(point, &options.join(","));
            }
            MountSource::Devpts { options } => {
                let fixed = ["nosuid", "noexec", "newinstance"].map(str::to_owned);
                let options =
                    fixed.into_iter().chain(options.iter().cloned()).chain(read_only(point)).collect();
                self.opened.mounts.push(new_mount(destination, "devpts", "devpts", options));
                return Ok(());
            }
            MountSource::Glob { pattern } => {
                return Err(Error::refused(format!("the pattern {pattern:?} was not looked up"), ""));
            }
            MountSource::Bind { path } => self.open_path(point, path)?,
            MountSource::Image { image } => {
                self.engine.open_image(image, point.subpath.as_deref(), self.contexts)?
            }
            MountSource::Volume { name, .. } => {
                let volume = self.engine.volumes.get(&name.parse()?)?;
                match volume_content(&volume.record)? {
                    VolumeContent::Tmpfs(options) => return self.add_tmpfs(point, &options.join(",")),
                    VolumeContent::Bind { path, read_only } => {
                        let source =
                            self.open_path(&MountPoint { make_source: false, ..point.clone() }, &path)?;
                        let point = MountPoint { read_only: read_only || point.read_only, ..point.clone() };
                        return self.add(&point, source, number);
                    }
                    VolumeContent::Data => open_data(&volume, point)?,
                }
            }
        };
        self.add(point, source, number)
    }

    /// Opens a file or folder of the host, links followed.
    fn open_path(&self, point: &MountPoint, path: &Path) -> Result<OwnedFd> {
        if point.chown || point.relabel.is_some() {
            refuse_system_folder(path)?;
        }
        require_source(path, point.make_source)?;
        Ok(open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).during("open", path)?)
    }

    fn add(&mut self, point: &MountPoint, source: OwnedFd, number: usize) -> Result<()> {
        // Who has no context of its own reaches all labels as they are.
        let confined = self.contexts.filter(|contexts| contexts.process.is_some());
        if let (Some(kind), Some(contexts)) = (point.relabel, confined) {
            relabel::relabel(&source, &relabel::label(contexts, kind))?;
        }
        if point.chown {
            give(&source, self.user)?;
        }
        let source = if point.overlay { self.overlay(&source, number)? } else { source };
        let shown = PathBuf::from(format!("/proc/self/fd/{}", source.as_raw_fd()));
        let mut options = vec![if is_recursive(point) { "rbind" } else { "bind" }.to_owned()];
        options.push(point.propagation.clone().unwrap_or_else(|| "rprivate".to_owned()));
        options.extend(read_only(point));
        options.extend(point.attributes.iter().cloned());
        let mut mount = new_mount(&point.destination, "bind", "", options);
        mount.set_source(Some(shown));
        if let Some(map) = &point.idmap {
            map_owners(&mut mount, map);
        }
        self.opened.mounts.push(mount);
        self.opened.sources.push(source);
        Ok(())
    }

    fn add_tmpfs(&mut self, point: &MountPoint, options: &str) -> Result<()> {
        let mut options = tmpfs_options(options);
        options.extend(read_only(point).into_iter().take(1).map(|_| "ro".to_owned()));
        self.opened.mounts.push(new_mount(&point.destination, "tmpfs", "tmpfs", options));
        Ok(())
    }

    /// An overlay on a folder, whose upper folder lies in the run folder of the container and is new at each start.
    fn overlay(&self, source: &OwnedFd, number: usize) -> Result<OwnedFd> {
        let kind = FileType::from_raw_mode(fstat(source).during("examine", "a mount source")?.st_mode);
        if !kind.is_dir() {
            return Err(Error::refused("the option O needs a folder, its source is none", ""));
        }
        let run = self.engine.environment.paths.runroot.join("containers").join(self.id);
        let folder = run.join(format!("upper-{number}"));
        tree::remove_tree(&folder)?;
        let (upper, work) = (folder.join("upper"), folder.join("work"));
        atomic::create_private_dir(&upper)?;
        atomic::create_private_dir(&work)?;
        let (upper, work) = (Root::open(&upper)?, Root::open(&work)?);
        let lower =
            Root::from_fd(source.try_clone().during("duplicate", "a mount source")?, "a mount source");
        copy_look(&lower, &upper)?;
        let by_descriptor = |fd: i32| format!("/proc/self/fd/{fd}");
        let filesystem = Filesystem::new("overlay")?
            .option("source", "overlay")?
            .option("lowerdir+", &by_descriptor(source.as_raw_fd()))?
            .option("upperdir", &by_descriptor(upper.as_fd().as_raw_fd()))?
            .option("workdir", &by_descriptor(work.as_fd().as_raw_fd()))?;
        Ok(filesystem.mount(MountAttrFlags::empty())?)
    }
}

/// The upper folder decides how the root of an overlay looks.
pub(crate) fn copy_look(from: &Root, to: &Root) -> Result<()> {
    if let Some(own) = from.metadata("")? {
        let place = to.at("")?;
        place.set_owner(own.uid, own.gid)?;
        place.set_mode(own.mode)?;
    }
    Ok(())
}

fn read_only(point: &MountPoint) -> Option<String> {
    point.read_only.then(|| match point.depth {
        MountDepth::Recursive | MountDepth::ReadOnly => "rro".to_owned(),
        MountDepth::Writable | MountDepth::Single => "ro".to_owned(),
    })
}

fn new_mount(destination: &Path, kind: &str, source: &str, options: Vec<String>) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.to_owned())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(PathBuf::from(source)))
        .set_options(Some(options));
    mount
}

/// A `--tmpfs` as a mount of the spec.
pub(crate) fn tmpfs_mount(tmpfs: &TmpfsMount) -> Mount {
    new_mount(&tmpfs.destination, "tmpfs", "tmpfs", tmpfs_options(&tmpfs.options))
}

/// The options of a tmpfs on top of the defaults. What the user says replaces its opposite among those.
fn tmpfs_options(text: &str) -> Vec<String> {
    let mut options = ["nosuid", "nodev", "noexec"].map(str::to_owned).to_vec();
    for option in text.split(',').filter(|option| !option.is_empty()) {
        options.retain(|known| known.strip_prefix("no") != Some(option));
        if option != "notmpcopyup" && option != "private" && option != "rprivate" {
            options.push(option.to_owned());
        }
    }
    options
}

fn map_owners(mount: &mut Mount, map: &OwnerMap) {
    let mapping = |[host, container, size]: &[u32; 3]| {
        let mapping = LinuxIdMappingBuilder::default().host_id(*host).container_id(*container).size(*size);
        mapping.build().expect("all fields are set")
    };
    let list = |ranges: &[[u32; 3]]| Some(ranges.iter().map(mapping).collect::<Vec<_>>());
    mount.set_uid_mappings(list(&map.users)).set_gid_mappings(list(&map.groups));
    let mut options = mount.options().clone().unwrap_or_default();
    options.push("ridmap".to_owned());
    mount.set_options(Some(options));
}

/// Gives a file, or a folder with all below it, to the user of a container.
fn give(source: &OwnedFd, user: &User) -> Result<()> {
    relabel::each(source, &mut |place| Ok(place.set_owner(user.uid, user.gid)?))
}
