//! The container spec: a pure merge of the program, the user's wishes and the defaults into an OCI runtime spec.

use carrack_container::{Bind, HostSettings, Program, SecuritySettings};
use carrack_runtime::{User, spec};
use oci_spec::runtime::{Linux, LinuxResources, LinuxSeccomp, Mount, Spec};

use crate::Result;
use crate::namespaces::Shared;
use crate::settings::ContainerSettings;

mod devices;
mod landlock;
mod mounts;
mod namespaces;
mod privileged;
mod process;
mod resources;
mod security;
mod system_paths;

pub use devices::check_device_rule;
pub(crate) use landlock::landlock;
pub(crate) use process::exec_process;
pub(crate) use resources::configure as configure_limits;

use process::ProcessInput;
use security::Security;

/// The spec's name in a bundle, such as the run folder of a container.
pub(crate) const SPEC_FILE: &str = "config.json";

/// What a spec is made of.
pub(crate) struct SpecInput<'a> {
    pub program: &'a Program,
    pub host: &'a HostSettings,
    /// Who the program runs as, as found in the container's files.
    pub user: &'a User,
    pub hostname: &'a str,
    /// Files that carrack keeps for the container.
    pub binds: &'a [Bind],
    /// Mounts of the user's, those below others last.
    pub mounts: &'a [Mount],
    /// What its namespaces are shared with.
    pub shared: &'a Shared,
    pub settings: &'a ContainerSettings,
}

/// Makes the spec of a container.
pub(crate) fn container_spec(input: &SpecInput<'_>) -> Result<Spec> {
    let mut spec = spec::default_spec();
    let security = Security::of(&input.host.security)?;
    let SpecInput { program, host, user, hostname, .. } = *input;
    spec.set_process(Some(process::process(&ProcessInput { program, host, user, hostname }, &security)?));
    let mut all = mounts::mounts(input, spec.mounts().clone().unwrap_or_default());
    namespaces::adapt_mounts(input, &mut all);
    security.adapt_mounts(&mut all);
    if host.mounts.systemd {
        all.iter_mut().filter(|mount| mounts::is_cgroup(mount)).for_each(privileged::make_writable);
    }
    spec.set_mounts(Some(all));
    if namespaces::has_own_name(input) {
        spec.set_hostname(Some(input.hostname.to_owned()));
    }
    if let Some(root) = spec.root_mut() {
        root.set_readonly(Some(input.host.mounts.read_only));
    }
    let mut linux = spec.linux().clone().unwrap_or_default();
    security.configure(&mut linux);
    configure_linux(&mut linux, input, security.seccomp)?;
    spec.set_linux(Some(linux));
    devices::configure(&mut spec, &input.host.devices, input.settings)?;
    if !host.annotations.is_empty() {
        spec.set_annotations(Some(host.annotations.clone().into_iter().collect()));
    }
    if !program.domainname.is_empty() {
        spec.set_domainname(Some(program.domainname.clone()));
    }
    if host.security.privileged {
        privileged::open(&mut spec)?;
    }
    Ok(spec)
}

/// The limits that the spec's cgroup is to have.
/// Refuses what could not be started: capabilities and security options that nobody knows, limits that cannot be.
pub(crate) fn check(host: &HostSettings) -> Result<()> {
    let SecuritySettings { cap_add, cap_drop, options, .. } = &host.security;
    if !(cap_add.is_empty() && cap_drop.is_empty() && options.is_empty()) {
        Security::of(&host.security)?;
    }
    host.resources.ulimits.iter().try_for_each(|limit| resources::rlimit(limit).map(drop))
}

pub(crate) fn limits(spec: &Spec) -> LinuxResources {
    spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default()
}

fn configure_linux(linux: &mut Linux, input: &SpecInput<'_>, seccomp: Option<LinuxSeccomp>) -> Result<()> {
    let namespaces = namespaces::namespaces(input, linux.namespaces().clone().unwrap_or_default());
    if let Some(mappings) = &input.shared.mappings {
        linux.set_uid_mappings(Some(mappings.uids.clone())).set_gid_mappings(Some(mappings.gids.clone()));
    }
    let mut limits = linux.resources().clone().unwrap_or_default();
    resources::configure(&mut limits, &input.host.resources, input.settings)?;
    linux
        .set_namespaces(Some(namespaces))
        .set_resources(Some(limits))
        .set_seccomp(seccomp)
        .set_sysctl(Some(input.host.sysctls.clone().into_iter().collect()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use carrack_container::{ContainerNetwork, NetworkMode, Resources, SecuritySettings, Ulimit};
    use oci_spec::runtime::LinuxNamespaceType;

    fn spec(program: &Program, host: &HostSettings) -> Result<Spec> {
        let user = User { uid: 1001, gid: 0, groups: vec![], home: "/home/app".into() };
        let settings = ContainerSettings::default();
        container_spec(&SpecInput {
            program,
            host,
            user: &user,
            hostname: "web",
            binds: &[],
            mounts: &[],
            shared: &Shared::default(),
            settings: &settings,
        })
    }

    #[test]
    fn the_user_is_who_the_image_says_and_has_no_capability() {
        let program =
            Program { command: vec!["sh".into()], env: vec!["HOME=/x".into()], ..Program::default() };
        let spec = spec(&program, &HostSettings::default()).unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!((process.user().uid(), process.user().gid()), (1001, 0));
        let env = process.env().as_ref().unwrap();
        assert!(env.contains(&"HOME=/x".to_owned()) && env.contains(&"HOSTNAME=web".to_owned()), "{env:?}");
        let sets = process.capabilities().as_ref().unwrap();
        assert_eq!((sets.effective(), sets.bounding().as_ref().unwrap().len()), (&None, 11));
    }

    #[test]
    fn limits_and_options() {
        let host = HostSettings {
            resources: Resources {
                memory_bytes: Some(64 << 20),
                nano_cpus: Some(1_500_000_000),
                ..Resources::default()
            },
            security: SecuritySettings {
                privileged: false,
                cap_drop: vec!["ALL".into()],
                cap_add: vec!["net_admin".into(), "CAP_CHOWN".into()],
                options: vec!["seccomp=unconfined".into(), "no-new-privileges".into()],
                contexts: None,
            },
            network: ContainerNetwork { mode: NetworkMode::Host, ..ContainerNetwork::default() },
            ..HostSettings::default()
        };
        let spec = spec(&Program::default(), &host).unwrap();
        let linux = spec.linux().as_ref().unwrap();
        let limits = linux.resources().as_ref().unwrap();
        let memory = limits.memory().as_ref().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(64 << 20), Some(128 << 20)));
        assert_eq!(limits.cpu().as_ref().unwrap().quota(), Some(150_000));
        assert_eq!(limits.pids().as_ref().unwrap().limit(), 2048);
        assert!(linux.seccomp().is_none());
        let has_network =
            |namespace: &oci_spec::runtime::LinuxNamespace| namespace.typ() == LinuxNamespaceType::Network;
        assert!(!linux.namespaces().as_ref().unwrap().iter().any(has_network));
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.no_new_privileges(), Some(true));
        assert_eq!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().len(), 2);
    }

    #[test]
    fn what_is_unknown_is_refused() {
        let with = |change: fn(&mut HostSettings)| {
            let mut host = HostSettings::default();
            change(&mut host);
            spec(&Program::default(), &host).is_err()
        };
        assert!(with(|host| host.security.cap_add = vec!["NOPE".into()]));
        assert!(with(|host| host.security.options = vec!["nonsense=x".into()]));
        assert!(with(|host| host.resources.ulimits = vec![Ulimit { name: "nope".into(), soft: 1, hard: 1 }]));
    }
}
