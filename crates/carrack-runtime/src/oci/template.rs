//! The config.json that `spec` writes: to be changed by its reader, safe as it is.

use oci_spec::runtime::{
    Arch, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType, LinuxResources, Mount, Root, Spec,
};

use crate::spec::default_spec;

/// The oldest version that has all that the template uses: runtimes before 1.1 refuse a later one.
const VERSION: &str = "1.0.2";

/// The name by which older runtimes know the architecture, which they do not know as the native one.
const ARCHITECTURE: Arch =
    if cfg!(target_arch = "aarch64") { Arch::ScmpArchAarch64 } else { Arch::ScmpArchX86_64 };

/// A shell on a terminal, in a root filesystem that is read-only. `rootless` is for a user other than root: a user
/// namespace in which he is root, and no network namespace, cgroup or sysfs of its own, which he cannot have.
pub fn template(rootless: bool) -> Spec {
    let mut spec = default_spec();
    let mut root = Root::default();
    root.set_path("rootfs".into()).set_readonly(Some(true));
    let mut process = spec.process().clone().unwrap_or_default();
    process
        .set_terminal(Some(true))
        .set_args(Some(vec!["sh".into()]))
        .set_no_new_privileges(Some(true))
        .set_env(Some(vec![
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            "TERM=xterm".into(),
        ]));
    spec.set_version(VERSION.into()).set_hostname(Some("carrack".into()));
    spec.set_root(Some(root)).set_process(Some(process));
    if let Some(seccomp) = spec.linux_mut().as_mut().and_then(|linux| linux.seccomp_mut().as_mut()) {
        seccomp.set_architectures(Some(vec![ARCHITECTURE]));
    }
    if rootless {
        for_user(&mut spec);
    }
    spec
}

fn for_user(spec: &mut Spec) {
    let mapping = |host_id: u32| {
        let mapping = LinuxIdMappingBuilder::default().container_id(0u32).host_id(host_id).size(1u32).build();
        mapping.ok().map(|mapping| vec![mapping])
    };
    if let Some(linux) = spec.linux_mut() {
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
        let mut user = LinuxNamespace::default();
        user.set_typ(LinuxNamespaceType::User).set_path(None);
        namespaces.push(user);
        linux
            .set_namespaces(Some(namespaces))
            .set_uid_mappings(mapping(rustix::process::geteuid().as_raw()))
            .set_gid_mappings(mapping(rustix::process::getegid().as_raw()))
            .set_resources(None::<LinuxResources>);
    }
    for mount in spec.mounts_mut().iter_mut().flatten() {
        adapt_mount(mount);
    }
}

fn adapt_mount(mount: &mut Mount) {
    if mount.typ().as_deref() == Some("sysfs") {
        let options = ["rbind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec();
        mount.set_typ(Some("none".into())).set_source(Some("/sys".into())).set_options(Some(options));
    }
    // The group tty is not mapped.
    let options = mount.options().clone().unwrap_or_default();
    mount.set_options(Some(options.into_iter().filter(|option| option != "gid=5").collect()));
}
