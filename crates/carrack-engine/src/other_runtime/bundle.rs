//! The bundle of a container: its spec with paths in place of descriptors, and the mounts that lie at those paths.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_container::HostSettings;
use carrack_runtime::cgroup::Cgroup;
use carrack_sys::mount::{Attributes, Propagation, attach, clone_path, set_attributes};
use carrack_sys::process::{namespace, unshare};
use carrack_sys::{IoContext, atomic, tree};
use oci_spec::runtime::{Mount, Spec};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};

use crate::spec::SPEC_FILE;
use crate::{Result, limits};

/// A mount at a path that the runtime is told.
struct Place {
    mount: OwnedFd,
    target: PathBuf,
}

/// What a runtime gets for its `create`.
pub(super) struct Bundle {
    places: Vec<Place>,
}

/// The spec for a runtime that finds its cgroup by a path. Of limits it gets those that this host can hold: the others
/// are carrack's own defaults, without which a container runs, or refused already.
pub(crate) fn adapted(
    mut spec: Spec,
    id: &str,
    host: &HostSettings,
    cgroup: Option<&Cgroup>,
) -> Result<Spec> {
    let unsupported = cgroup.map(Cgroup::unsupported).unwrap_or_default();
    if let Some(linux) = spec.linux_mut() {
        linux.set_cgroups_path(limits::cgroup_place(id, &host.resources)?.map(|place| place.path()));
        if let Some(resources) = linux.resources_mut() {
            if unsupported.contains(&"pids") {
                resources.set_pids(None);
            }
            if unsupported.contains(&"devices") {
                resources.set_devices(None);
            }
            // They are set already, and refused where a runtime sees cgroups v1.
            resources.set_unified(None);
        }
    }
    Ok(spec)
}

impl Bundle {
    /// Writes the bundle into `folder`. In `spec`, each mount that is named by a descriptor of this process becomes one of a
    /// path.
    pub fn write(folder: &Path, spec: &mut Spec, rootfs: OwnedFd) -> Result<Self> {
        // A root that others share would spread what the runtime mounts in it.
        set_attributes(rootfs.as_fd(), Attributes::propagation(Propagation::Private), true)?;
        let target = folder.join("rootfs");
        atomic::create_private_dir(&target)?;
        let mut bundle = Self { places: vec![Place { mount: rootfs, target }] };
        let sources = folder.join("sources");
        tree::remove_tree(&sources)?;
        atomic::create_private_dir(&sources)?;
        for (number, mount) in spec.mounts_mut().iter_mut().flatten().enumerate() {
            if mount.source().as_ref().is_some_and(|source| source.starts_with("/proc/self/fd")) {
                bundle.place(mount, sources.join(number.to_string()))?;
            }
        }
        let bytes = serde_json::to_vec(spec).expect("a spec has string keys only");
        atomic::write(&folder.join(SPEC_FILE), &bytes, 0o600, atomic::Durability::Volatile)?;
        Ok(bundle)
    }

    fn place(&mut self, mount: &mut Mount, target: PathBuf) -> Result<()> {
        let options = mount.options().iter().flatten();
        let is_recursive = options.into_iter().any(|option| option == "rbind");
        let source = clone_path(mount.source().as_deref().unwrap_or(Path::new("")), is_recursive)?;
        let kind = FileType::from_raw_mode(fstat(&source).during("examine", "a mount source")?.st_mode);
        match kind {
            FileType::Directory => fs::create_dir(&target).during("create the folder", &target)?,
            _ => drop(File::create_new(&target).during("create", &target)?),
        }
        mount.set_source(Some(target.clone()));
        self.places.push(Place { mount: source, target });
        Ok(())
    }

    /// In a process of its own: goes into a new mount namespace, and attaches everything there. What the host mounts
    /// later is seen, what is mounted here is not seen by the host.
    pub fn enter(&self) -> Result<()> {
        unshare(namespace::MOUNT).during("make", "a mount namespace")?;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = open("/", flags, Mode::empty()).during("open", "/")?;
        set_attributes(root.as_fd(), Attributes::propagation(Propagation::Slave), true)?;
        for Place { mount, target } in &self.places {
            let target = open(target, flags | OFlags::NOFOLLOW, Mode::empty()).during("open", target)?;
            attach(mount.as_fd(), target.as_fd())?;
        }
        Ok(())
    }
}
