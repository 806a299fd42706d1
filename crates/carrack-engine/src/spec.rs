//! The container spec: a pure merge of the program, the user's wishes and the defaults into an OCI runtime spec.

use std::path::PathBuf;

use carrack_container::{Bind, HostSettings, NetworkMode, Program, TmpfsMount, Ulimit};
use carrack_runtime::{User, capabilities, seccomp, spec};
use carrack_sys::atomic;
use oci_spec::runtime::{
    Box as ConsoleSize, Capability, Linux, LinuxCpu, LinuxMemory, LinuxNamespaceType, LinuxPids,
    LinuxResources, LinuxSeccomp, Mount, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, Spec,
    User as SpecUser,
};

use crate::settings::ContainerSettings;
use crate::{Error, Result};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The period of CPU quotas, in microseconds (Docker's).
const CPU_PERIOD: u64 = 100_000;

/// What a spec is made of.
pub(crate) struct SpecInput<'a> {
    pub program: &'a Program,
    pub host: &'a HostSettings,
    /// Who the program runs as, as found in the container's files.
    pub user: &'a User,
    pub hostname: &'a str,
    /// Files and folders of the host, those of the user last.
    pub binds: &'a [Bind],
    pub settings: &'a ContainerSettings,
}

/// Makes the spec of a container.
pub(crate) fn container_spec(input: &SpecInput<'_>) -> Result<Spec> {
    let mut spec = spec::default_spec();
    let granted = granted_capabilities(input.host)?;
    let security = Security::parse(&input.host.security_options, &granted)?;
    let SpecInput { program, host, user, hostname, .. } = *input;
    spec.set_process(Some(process(&ProcessInput { program, host, user, hostname }, &granted, &security)?));
    spec.set_mounts(Some(mounts(input, spec.mounts().clone().unwrap_or_default())));
    if has_own_name(input) {
        spec.set_hostname(Some(input.hostname.to_owned()));
    }
    if let Some(root) = spec.root_mut() {
        root.set_readonly(Some(input.host.read_only));
    }
    let mut linux = spec.linux().clone().unwrap_or_default();
    configure_linux(&mut linux, input, security.seccomp);
    spec.set_linux(Some(linux));
    Ok(spec)
}

/// The limits that the spec's cgroup is to have.
pub(crate) fn limits(spec: &Spec) -> LinuxResources {
    spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default()
}

/// Makes the process of an `exec` in a container of `host`.
pub(crate) fn exec_process(
    program: &Program,
    host: &HostSettings,
    user: &User,
    hostname: &str,
) -> Result<Process> {
    let granted = granted_capabilities(host)?;
    let security = Security::parse(&host.security_options, &granted)?;
    process(&ProcessInput { program, host, user, hostname }, &granted, &security)
}

/// The part of a spec that differs from process to process.
struct ProcessInput<'a> {
    program: &'a Program,
    host: &'a HostSettings,
    user: &'a User,
    hostname: &'a str,
}

fn process(input: &ProcessInput<'_>, granted: &[Capability], security: &Security) -> Result<Process> {
    let ProcessInput { program, host, user, .. } = input;
    let mut process = spec::default_spec().process().clone().unwrap_or_default();
    let mut ids = SpecUser::default();
    ids.set_uid(user.uid).set_gid(user.gid).set_additional_gids(Some(user.groups.clone()));
    let mut sets = spec::capabilities(&granted.iter().copied().collect());
    if user.uid != 0 {
        // A user that is not root may acquire capabilities (the bounding set), but has none.
        sets.set_effective(None).set_permitted(None);
    }
    let cwd = if program.working_dir.is_empty() { "/" } else { &program.working_dir };
    process
        .set_args(Some(program.entrypoint.iter().chain(&program.command).cloned().collect()))
        .set_env(Some(environment(input)))
        .set_cwd(PathBuf::from(cwd))
        .set_user(ids)
        .set_terminal(Some(program.tty))
        .set_capabilities(Some(sets))
        .set_no_new_privileges(Some(security.no_new_privileges))
        .set_rlimits(Some(host.ulimits.iter().map(rlimit).collect::<Result<_>>()?));
    if program.tty {
        process.set_console_size(Some(ConsoleSize::default()));
    }
    Ok(process)
}

/// The program's own variables win over those that every container has.
fn environment(input: &ProcessInput<'_>) -> Vec<String> {
    let mut defaults = vec![
        DEFAULT_PATH.to_owned(),
        format!("HOSTNAME={}", input.hostname),
        format!("HOME={}", input.user.home.display()),
    ];
    if input.program.tty {
        defaults.push("TERM=xterm".to_owned());
    }
    crate::create::merged_env(&defaults, &input.program.env)
}

fn granted_capabilities(host: &HostSettings) -> Result<Vec<Capability>> {
    let mut granted = capabilities::DEFAULT.to_vec();
    let has_all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("all"));
    if has_all(&host.cap_add) {
        granted = capabilities::ALL.to_vec();
    }
    if has_all(&host.cap_drop) {
        granted.clear();
    }
    for name in host.cap_drop.iter().filter(|name| !name.eq_ignore_ascii_case("all")) {
        let dropped = capability(name)?;
        granted.retain(|known| *known != dropped);
    }
    for name in host.cap_add.iter().filter(|name| !name.eq_ignore_ascii_case("all")) {
        let added = capability(name)?;
        if !granted.contains(&added) {
            granted.push(added);
        }
    }
    Ok(granted)
}

fn capability(name: &str) -> Result<Capability> {
    capabilities::parse(name)
        .ok_or_else(|| Error::refused(format!("unknown capability {name:?}"), "see capabilities(7)"))
}

/// What `--security-opt` says.
struct Security {
    no_new_privileges: bool,
    seccomp: Option<LinuxSeccomp>,
}

impl Security {
    fn parse(options: &[String], granted: &[Capability]) -> Result<Self> {
        let mut security =
            Self { no_new_privileges: false, seccomp: Some(seccomp::default_profile(granted)) };
        for option in options {
            // Docker once separated the two by a colon.
            let (key, value) = option.split_once(['=', ':']).unwrap_or((option, "true"));
            match (key, value) {
                ("no-new-privileges", "true" | "false") => security.no_new_privileges = value == "true",
                ("seccomp", "unconfined") => security.seccomp = None,
                ("seccomp", file) => security.seccomp = Some(read_profile(file)?),
                _ => {
                    let hint = "carrack knows no-new-privileges, seccomp=unconfined and seccomp=FILE";
                    return Err(Error::refused(format!("unknown security option {option:?}"), hint));
                }
            }
        }
        Ok(security)
    }
}

fn read_profile(file: &str) -> Result<LinuxSeccomp> {
    let bytes = atomic::read(file.as_ref())?.ok_or_else(|| {
        Error::refused(format!("there is no seccomp profile {file}"), "expected a JSON file")
    })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::refused(format!("invalid seccomp profile {file}: {error}"), "expected the OCI form")
    })
}

fn mounts(input: &SpecInput<'_>, mut mounts: Vec<Mount>) -> Vec<Mount> {
    if let Some(bytes) = input.host.shm_size_bytes {
        for mount in mounts.iter_mut().filter(|mount| mount.destination().ends_with("dev/shm")) {
            let options = ["nosuid", "noexec", "nodev", "mode=1777"].map(str::to_owned);
            mount.set_options(Some(options.into_iter().chain([format!("size={bytes}")]).collect()));
        }
    }
    mounts.extend(input.host.tmpfs.iter().map(tmpfs));
    mounts.extend(input.binds.iter().chain(&input.host.binds).map(bind));
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
        options.push("ro".to_owned());
    }
    let mut mount = Mount::default();
    mount
        .set_destination(bind.destination.clone())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(bind.source.clone()))
        .set_options(Some(options));
    mount
}

fn rlimit(limit: &Ulimit) -> Result<PosixRlimit> {
    let name = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
    let kind: PosixRlimitType = serde_json::from_value(name.into()).map_err(|_| {
        Error::refused(format!("unknown ulimit {:?}", limit.name), "names are those of getrlimit(2)")
    })?;
    let value = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    let rlimit =
        PosixRlimitBuilder::default().typ(kind).soft(value(limit.soft)).hard(value(limit.hard)).build();
    Ok(rlimit.expect("all fields are set"))
}

/// The host's name goes with its network, unless the user gives another.
fn has_own_name(input: &SpecInput<'_>) -> bool {
    input.host.network != NetworkMode::Host || !input.program.hostname.is_empty()
}

fn configure_linux(linux: &mut Linux, input: &SpecInput<'_>, seccomp: Option<LinuxSeccomp>) {
    let mut shared = Vec::new();
    if input.host.network == NetworkMode::Host {
        shared.push(LinuxNamespaceType::Network);
    }
    if !has_own_name(input) {
        shared.push(LinuxNamespaceType::Uts);
    }
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    namespaces.retain(|namespace| !shared.contains(&namespace.typ()));
    let mut limits = linux.resources().clone().unwrap_or_default();
    configure_limits(&mut limits, input);
    linux
        .set_namespaces(Some(namespaces))
        .set_resources(Some(limits))
        .set_seccomp(seccomp)
        .set_sysctl(Some(input.host.sysctls.clone().into_iter().collect()));
}

fn configure_limits(limits: &mut LinuxResources, input: &SpecInput<'_>) {
    let host = input.host;
    if let Some(bytes) = host.memory_bytes {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut memory = LinuxMemory::default();
        // Docker: as much swap again as memory, unless the user says otherwise.
        memory
            .set_limit(Some(bytes))
            .set_swap(Some(host.memory_swap_bytes.unwrap_or(bytes.saturating_mul(2))));
        limits.set_memory(Some(memory));
    }
    if host.nano_cpus.is_some() || host.cpu_shares.is_some() || host.cpuset_cpus.is_some() {
        let mut cpu = LinuxCpu::default();
        if let Some(nano_cpus) = host.nano_cpus {
            let quota = nano_cpus * CPU_PERIOD / 1_000_000_000;
            cpu.set_period(Some(CPU_PERIOD)).set_quota(i64::try_from(quota).ok());
        }
        cpu.set_shares(host.cpu_shares).set_cpus(host.cpuset_cpus.clone());
        limits.set_cpu(Some(cpu));
    }
    let limit = match host.pids_limit.unwrap_or(input.settings.pids_limit) {
        0 => -1, // Docker: 0 is unlimited too
        limit => limit,
    };
    let mut pids = LinuxPids::default();
    pids.set_limit(limit);
    limits.set_pids(Some(pids));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(program: &Program, host: &HostSettings) -> Result<Spec> {
        let user = User { uid: 1001, gid: 0, groups: vec![], home: "/home/app".into() };
        let settings = ContainerSettings::default();
        container_spec(&SpecInput {
            program,
            host,
            user: &user,
            hostname: "web",
            binds: &[],
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
            memory_bytes: Some(64 << 20),
            nano_cpus: Some(1_500_000_000),
            cap_drop: vec!["ALL".into()],
            cap_add: vec!["net_admin".into(), "CAP_CHOWN".into()],
            security_options: vec!["seccomp=unconfined".into(), "no-new-privileges".into()],
            network: NetworkMode::Host,
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
        assert!(with(|host| host.cap_add = vec!["NOPE".into()]));
        assert!(with(|host| host.security_options = vec!["apparmor=x".into()]));
        assert!(with(|host| host.ulimits = vec![Ulimit { name: "nope".into(), soft: 1, hard: 1 }]));
    }
}
