//! Which namespaces a container has of its own, and what of its mounts follows from that.

use std::path::{Path, PathBuf};

use carrack_container::{IpcMode, NamespaceMode, NetworkMode};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespace, LinuxNamespaceType, Mount};

use super::SpecInput;

/// Those of `own` that the container does not share with the host, and those that it joins.
pub fn namespaces(input: &SpecInput<'_>, mut own: Vec<LinuxNamespace>) -> Vec<LinuxNamespace> {
    let modes = &input.host.namespaces;
    let mut shared: Vec<LinuxNamespaceType> = input.shared.joined.iter().map(|(kind, _)| *kind).collect();
    let of_host = [
        (LinuxNamespaceType::Network, input.host.network.mode == NetworkMode::Host),
        (LinuxNamespaceType::Uts, !has_own_name(input)),
        (LinuxNamespaceType::Pid, modes.pid == NamespaceMode::Host),
        (LinuxNamespaceType::Ipc, modes.ipc == IpcMode::Of(NamespaceMode::Host)),
        (LinuxNamespaceType::Cgroup, modes.cgroup == NamespaceMode::Host),
    ];
    shared.extend(of_host.into_iter().filter(|(_, is_of_host)| *is_of_host).map(|(kind, _)| kind));
    own.retain(|namespace| !shared.contains(&namespace.typ()));
    if input.shared.mappings.is_some() {
        own.push(namespace(LinuxNamespaceType::User, None));
    }
    own.extend(input.shared.joined.iter().map(|(kind, path)| namespace(*kind, Some(path.clone()))));
    own
}

fn namespace(kind: LinuxNamespaceType, path: Option<PathBuf>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path);
    namespace
}

/// The host's name goes with its network, unless the user gives another.
pub fn has_own_name(input: &SpecInput<'_>) -> bool {
    input.host.namespaces.uts == NamespaceMode::Private
        && (input.host.network.mode != NetworkMode::Host
            || !input.program.hostname.is_empty()
            || !input.program.domainname.is_empty())
}

/// Memory that is shared goes with the IPC namespace, and ids of the default mounts exist only where they are mapped.
pub fn adapt_mounts(input: &SpecInput<'_>, mounts: &mut Vec<Mount>) {
    let is_memory = |mount: &Mount| {
        mount.destination() == Path::new("/dev/shm") && mount.typ().as_deref() == Some("tmpfs")
    };
    let source = match &input.host.namespaces.ipc {
        IpcMode::None => {
            mounts.retain(|mount| !is_memory(mount));
            None
        }
        IpcMode::Of(NamespaceMode::Host) => Some(PathBuf::from("/dev/shm")),
        IpcMode::Of(_) => input.shared.memory_path(),
        IpcMode::Shareable | IpcMode::Private => None,
    };
    if let Some(source) = source {
        for mount in mounts.iter_mut().filter(|mount| is_memory(mount)) {
            let options = ["bind", "rprivate", "nosuid", "nodev", "noexec"].map(str::to_owned).to_vec();
            mount
                .set_typ(Some("bind".to_owned()))
                .set_source(Some(source.clone()))
                .set_options(Some(options));
        }
    }
    let Some(mappings) = &input.shared.mappings else { return };
    // The group of terminals.
    let has_tty =
        |one: &LinuxIdMapping| (5 - one.container_id().min(5)) < one.size() && one.container_id() <= 5;
    if !mappings.gids.iter().any(has_tty) {
        for mount in mounts.iter_mut().filter(|mount| mount.typ().as_deref() == Some("devpts")) {
            let options = mount.options().iter().flatten().filter(|option| *option != "gid=5").cloned();
            let options = options.collect();
            mount.set_options(Some(options));
        }
    }
}
