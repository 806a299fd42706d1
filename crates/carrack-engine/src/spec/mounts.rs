//! What a container sees beside its image.
//!
//! Invariant: a mount comes after those that it lies below; where the user mounts what every container has, the
//! user's takes its place.

use carrack_container::{Bind, TmpfsMount};
use oci_spec::runtime::Mount;

use super::SpecInput;
use crate::mount_points;
use crate::mount_sources::tmpfs_mount;

/// The default mounts, files that carrack keeps for the container, and those of the user.
pub fn mounts(input: &SpecInput<'_>, mut mounts: Vec<Mount>) -> Vec<Mount> {
    let asked = &input.host.mounts;
    if let Some(bytes) = asked.shm_size_bytes {
        for mount in mounts.iter_mut().filter(|mount| mount.destination().ends_with("dev/shm")) {
            let options = ["nosuid", "noexec", "nodev", "mode=1777"].map(str::to_owned);
            mount.set_options(Some(options.into_iter().chain([format!("size={bytes}")]).collect()));
        }
    }
    let mut further: Vec<Mount> = Vec::new();
    further.extend(mount_points::writable(asked).map(|(path, mode)| {
        let options = format!("exec,mode={mode}");
        tmpfs_mount(&TmpfsMount { destination: path.to_owned(), options })
    }));
    further.extend(asked.tmpfs.iter().map(tmpfs_mount));
    further.extend(input.binds.iter().map(bind));
    further.extend(input.mounts.iter().cloned());
    further.sort_by_key(|mount| mount.destination().components().count());
    for mount in further {
        match mounts.iter_mut().find(|known| known.destination() == mount.destination()) {
            Some(known) => *known = mount,
            None => mounts.push(mount),
        }
    }
    mounts
}

/// Whether it is the container's view of cgroups.
pub fn is_cgroup(mount: &Mount) -> bool {
    matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2"))
}

fn bind(bind: &Bind) -> Mount {
    let mut options = vec!["rbind".to_owned(), "rprivate".to_owned()];
    if bind.read_only {
        options.push("rro".to_owned()); // of the mounts below too, as Docker has it
    }
    let mut mount = Mount::default();
    mount
        .set_destination(bind.destination.clone())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(bind.source.clone()))
        .set_options(Some(options));
    mount
}
