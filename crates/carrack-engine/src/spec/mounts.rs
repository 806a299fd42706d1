//! What a container sees beside its image.

use std::path::PathBuf;

use carrack_container::{Bind, TmpfsMount};
use oci_spec::runtime::Mount;

use super::SpecInput;

/// The default mounts, those of the user, and files that carrack keeps for the container.
pub fn mounts(input: &SpecInput<'_>, mut mounts: Vec<Mount>) -> Vec<Mount> {
    if let Some(bytes) = input.host.mounts.shm_size_bytes {
        for mount in mounts.iter_mut().filter(|mount| mount.destination().ends_with("dev/shm")) {
            let options = ["nosuid", "noexec", "nodev", "mode=1777"].map(str::to_owned);
            mount.set_options(Some(options.into_iter().chain([format!("size={bytes}")]).collect()));
        }
    }
    mounts.extend(input.host.mounts.tmpfs.iter().map(tmpfs));
    mounts.extend(input.binds.iter().chain(&input.host.mounts.binds).map(bind));
    mounts
}

fn tmpfs(tmpfs: &TmpfsMount) -> Mount {
    let mut options = ["nosuid", "nodev", "noexec"].map(str::to_owned).to_vec();
    for option in tmpfs.options.split(',').filter(|option| !option.is_empty()) {
        // What the user says replaces its opposite among the defaults.
        options.retain(|known| known.strip_prefix("no") != Some(option));
        options.push(option.to_owned());
    }
    let mut mount = Mount::default();
    mount
        .set_destination(tmpfs.destination.clone())
        .set_typ(Some("tmpfs".to_owned()))
        .set_source(Some(PathBuf::from("tmpfs")))
        .set_options(Some(options));
    mount
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
