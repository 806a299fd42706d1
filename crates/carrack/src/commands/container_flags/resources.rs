//! Flags that limit a container, and say which cgroup it is in.

use std::collections::BTreeMap;

use carrack_engine::{CgroupMode, Resources, Ulimit};
use clap::Args;

use super::limits::LimitFlags;
use crate::failure::{Result, invalid};

#[derive(Args)]
pub struct ResourceFlags {
    #[command(flatten)]
    limits: LimitFlags,
    /// Let processes wait for memory in place of killing one (cgroup v1)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    oom_kill_disable: Option<bool>,
    /// Cgroup that the container's own is made in, as in /parent
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// Write to a file of cgroup v2, as in memory.high=1073741824
    #[arg(long, value_name = "FILE=VALUE")]
    cgroup_conf: Vec<String>,
    /// enabled, disabled (none of its own), or no-conmon (as enabled: the monitor is never in it)
    #[arg(long, value_name = "MODE", value_parser = cgroup_mode)]
    cgroups: Option<CgroupMode>,
    /// Limit a resource of each process, as in nofile=1024:2048; host is what the command itself has
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
}

impl ResourceFlags {
    /// What is asked of the engine.
    pub fn resources(&self) -> Result<Resources> {
        // A container has the limits of the command that starts it, unless told otherwise.
        let ulimits = self.ulimit.iter().filter(|text| *text != "host");
        Ok(Resources {
            oom_kill_disable: self.oom_kill_disable,
            cgroup_parent: self.cgroup_parent.clone().filter(|parent| !parent.is_empty()),
            cgroup_conf: self
                .cgroup_conf
                .iter()
                .map(|text| cgroup_conf(text))
                .collect::<Result<BTreeMap<_, _>>>()?,
            cgroups: self.cgroups.unwrap_or_default(),
            ulimits: ulimits.map(|text| ulimit(text)).collect::<Result<_>>()?,
            ..self.limits.limits()?
        })
    }
}

fn cgroup_mode(text: &str) -> Result<CgroupMode, String> {
    match text {
        "enabled" => Ok(CgroupMode::Enabled),
        "disabled" => Ok(CgroupMode::Disabled),
        "no-conmon" => Ok(CgroupMode::NoConmon),
        "split" => Err("split needs a cgroup of systemd; expected enabled, disabled or no-conmon".to_owned()),
        _ => Err("expected enabled, disabled or no-conmon".to_owned()),
    }
}

/// `FILE=VALUE`
fn cgroup_conf(text: &str) -> Result<(String, String)> {
    let pair = text.split_once('=').filter(|(file, value)| file.contains('.') && !value.is_empty());
    let (file, value) =
        pair.ok_or_else(|| invalid("--cgroup-conf", text, "FILE=VALUE, as in memory.high=1073741824"))?;
    Ok((file.to_owned(), value.to_owned()))
}

/// `NAME=SOFT[:HARD]`
fn ulimit(text: &str) -> Result<Ulimit> {
    let parse = || {
        let (name, limits) = text.split_once('=')?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let number = |text: &str| if text == "unlimited" { Some(-1) } else { text.parse().ok() };
        Some(Ulimit { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? })
    };
    parse().ok_or_else(|| invalid("--ulimit", text, "NAME=SOFT[:HARD], as in nofile=1024:2048"))
}
