//! The spec that every container starts from: as Docker and Podman have it, the stricter of the two where they
//! differ and nobody notices.

use std::path::PathBuf;

use oci_spec::runtime::{
    Capabilities, Linux, LinuxCapabilities, LinuxDeviceCgroup, LinuxDeviceType, LinuxNamespace,
    LinuxNamespaceType, LinuxPids, LinuxResources, Mount, Process, Root, Spec, User,
};

use crate::capabilities::DEFAULT;
use crate::seccomp::default_profile;

/// Processes that a container may have unless the user says otherwise (Podman's default).
pub const DEFAULT_PIDS_LIMIT: i64 = 2048;

/// All namespaces but a user namespace, the 11 default capabilities in the default seccomp profile, kernel
/// filesystems masked and read-only. The caller adds arguments, environment, user, limits and mounts.
pub fn default_spec() -> Spec {
    let mut spec = Spec::default();
    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs")).set_readonly(Some(false));
    spec.set_root(Some(root))
        .set_hostname(None)
        .set_mounts(Some(default_mounts()))
        .set_process(Some(default_process()))
        .set_linux(Some(default_linux()));
    spec
}

fn default_process() -> Process {
    let mut process = Process::default();
    process
        .set_args(None)
        .set_env(None)
        .set_user(User::default())
        .set_cwd(PathBuf::from("/"))
        .set_rlimits(None)
        .set_no_new_privileges(Some(false))
        .set_terminal(Some(false))
        .set_capabilities(Some(capabilities(&DEFAULT.into())));
    process
}

/// The sets of a process with `capabilities`: inheritable and ambient stay empty (CVE-2022-24769).
pub fn capabilities(capabilities: &Capabilities) -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(capabilities.clone()))
        .set_effective(Some(capabilities.clone()))
        .set_permitted(Some(capabilities.clone()))
        .set_inheritable(None)
        .set_ambient(None);
    sets
}

fn default_linux() -> Linux {
    let kinds = [
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Cgroup,
    ];
    let namespaces = kinds.map(|kind| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind).set_path(None);
        namespace
    });
    let mut pids = LinuxPids::default();
    pids.set_limit(DEFAULT_PIDS_LIMIT);
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(device_rules())).set_pids(Some(pids));
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces.to_vec()))
        .set_resources(Some(resources))
        .set_devices(None)
        .set_masked_paths(Some(MASKED.map(str::to_owned).to_vec()))
        .set_readonly_paths(Some(READ_ONLY.map(str::to_owned).to_vec()))
        .set_seccomp(Some(default_profile(&DEFAULT)));
    linux
}

/// Union of Docker's and Podman's lists.
const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn default_mounts() -> Vec<Mount> {
    let mount = |destination: &str, kind: &str, options: &[&str]| {
        let mut mount = Mount::default();
        mount
            .set_destination(PathBuf::from(destination))
            .set_typ(Some(kind.to_owned()))
            .set_source(Some(PathBuf::from(kind)))
            .set_options(Some(options.iter().map(ToString::to_string).collect()));
        mount
    };
    vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

/// All denied but what no container can do without.
fn device_rules() -> Vec<LinuxDeviceCgroup> {
    let mut rules = vec![rule(false, LinuxDeviceType::A, (None, None), "rwm")];
    rules.extend(indispensable_devices());
    rules
}

/// Making nodes (which needs CAP_MKNOD), and the use of the devices of every container. Bundles of podman deny all and
/// leave it to the runtime to allow these.
pub(crate) fn indispensable_devices() -> Vec<LinuxDeviceCgroup> {
    let any = (None, None);
    let mut rules = vec![rule(true, LinuxDeviceType::C, any, "m"), rule(true, LinuxDeviceType::B, any, "m")];
    let usable = [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
        (5, Some(0)),
        (5, Some(1)),
        (5, Some(2)),
        (136, None),
    ];
    rules.extend(usable.map(|(major, minor)| rule(true, LinuxDeviceType::C, (Some(major), minor), "rwm")));
    rules
}

fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    (major, minor): (Option<i64>, Option<i64>),
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow).set_typ(Some(kind)).set_major(major).set_minor(minor);
    rule.set_access(Some(access.to_owned()));
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spec_survives_json() {
        let spec = default_spec();
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), spec);
    }

    #[test]
    fn the_capabilities_are_the_documented_eleven_and_none_is_inheritable() {
        let spec = default_spec();
        let sets = spec.process().as_ref().unwrap().capabilities().clone().unwrap();
        let names: std::collections::BTreeSet<_> =
            sets.bounding().iter().flatten().map(ToString::to_string).collect();
        let documented =
            "CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT";
        assert_eq!(names, documented.split(' ').map(str::to_owned).collect());
        assert_eq!((sets.inheritable(), sets.ambient()), (&None, &None));
    }
}
