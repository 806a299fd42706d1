//! The process that a container or an `exec` begins with.

use std::path::PathBuf;

use carrack_container::{HostSettings, Program, Ulimit};
use carrack_runtime::{User, spec};
use oci_spec::runtime::{Box as ConsoleSize, PosixRlimit, Process, User as SpecUser};

use super::resources::rlimit;
use super::security::Security;
use crate::Result;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The part of a spec that differs from process to process.
pub struct ProcessInput<'a> {
    pub program: &'a Program,
    pub host: &'a HostSettings,
    pub user: &'a User,
    pub hostname: &'a str,
}

/// Makes the process of an `exec` in a container of `host`.
pub fn exec_process(program: &Program, host: &HostSettings, user: &User, hostname: &str) -> Result<Process> {
    let security = Security::of(&host.security)?;
    process(&ProcessInput { program, host, user, hostname }, &security)
}

/// Makes the process of a container.
pub fn process(input: &ProcessInput<'_>, security: &Security) -> Result<Process> {
    let ProcessInput { program, host, user, .. } = input;
    let mut process = spec::default_spec().process().clone().unwrap_or_default();
    let mut ids = SpecUser::default();
    ids.set_uid(user.uid).set_gid(user.gid).set_additional_gids(Some(user.groups.clone()));
    ids.set_umask(program.umask);
    let mut sets = spec::capabilities(&security.granted.iter().copied().collect());
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
        .set_oom_score_adj(host.oom_score_adj)
        .set_selinux_label(security.contexts.as_ref().and_then(|contexts| contexts.process.clone()))
        .set_apparmor_profile(security.apparmor.clone())
        .set_rlimits(Some(rlimits(&host.resources.ulimits)?));
    if program.tty {
        process.set_console_size(Some(ConsoleSize::default()));
    }
    Ok(process)
}

/// The last word on each limit counts; the specification takes each once only.
fn rlimits(asked: &[Ulimit]) -> Result<Vec<PosixRlimit>> {
    let mut limits: Vec<PosixRlimit> = Vec::new();
    for limit in asked.iter().map(rlimit) {
        let limit = limit?;
        limits.retain(|other| other.typ() != limit.typ());
        limits.push(limit);
    }
    Ok(limits)
}

/// The program's own variables win over those that every container has.
fn environment(input: &ProcessInput<'_>) -> Vec<String> {
    let mut defaults = vec![
        DEFAULT_PATH.to_owned(),
        format!("HOSTNAME={}", input.hostname),
        format!("HOME={}", input.user.home.display()),
    ];
    if input.host.mounts.systemd {
        // By which systemd knows where it is.
        defaults.push("container=carrack".to_owned());
    }
    if input.program.tty {
        defaults.push("TERM=xterm".to_owned());
    }
    let is_unset = |entry: &String| {
        let name = entry.split('=').next().unwrap_or_default();
        input.program.unset_all_env || input.program.unset_env.iter().any(|unset| unset == name)
    };
    defaults.retain(|entry| !is_unset(entry));
    crate::create::merged_env(&defaults, &input.program.env)
}
