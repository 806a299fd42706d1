//! What limits mean together, where the cgroup of a container is, and what this host cannot hold.

use std::path::{Path, PathBuf};

use carrack_container::{CgroupMode, Effect, Resources};
use carrack_runtime::cgroup::Cgroup;

use crate::{Error, Result};

/// Refuses what contradicts itself or no kernel takes.
pub(crate) fn check(asked: &Resources) -> Result<()> {
    let memory = asked.memory_bytes;
    if asked.memory_swap_bytes.is_some() && memory.is_none() {
        return Err(Error::refused("a limit of memory and swap needs one of memory", "add --memory"));
    }
    if let (Some(sum @ 1..), Some(memory)) = (asked.memory_swap_bytes, memory)
        && sum.unsigned_abs() < memory
    {
        let message = "the limit of memory and swap together is below that of memory";
        return Err(Error::refused(message, "--memory-swap is the sum of both"));
    }
    if let (Some(reservation), Some(memory)) = (asked.memory_reservation_bytes, memory)
        && reservation > memory
    {
        let message = "the reservation of memory is above its limit";
        return Err(Error::refused(message, "lower --memory-reservation"));
    }
    if asked.nano_cpus.is_some() && (asked.cpu_quota_us.is_some() || asked.cpu_period_us.is_some()) {
        let message = "--cpus and a quota of CPU time are two limits of one thing";
        return Err(Error::refused(message, "give --cpus, or --cpu-period and --cpu-quota"));
    }
    within("--memory-swappiness", asked.memory_swappiness, 0, 100)?;
    within("--cpu-period", asked.cpu_period_us, 1_000, 1_000_000)?;
    let quota = asked.cpu_quota_us.filter(|quota| *quota > 0).map(i64::unsigned_abs);
    within("--cpu-quota", quota, 1_000, u64::MAX)?;
    within("--blkio-weight", asked.blkio_weight, 10, 1000)?;
    for device in &asked.blkio_weight_devices {
        within("--blkio-weight-device", Some(device.weight), 10, 1000)?;
    }
    check_cgroup(asked)
}

fn check_cgroup(asked: &Resources) -> Result<()> {
    if let Some(parent) = &asked.cgroup_parent {
        if parent.ends_with(".slice") {
            let message = format!("{parent} is a slice of systemd, and carrack makes cgroups itself");
            return Err(Error::refused(
                message,
                "give a path below the root of the hierarchies, as in /parent",
            ));
        }
        let is_plain = parent.split('/').all(|part| part != ".." && part != ".") && !parent.contains('\0');
        if !is_plain || parent.trim_matches('/').is_empty() {
            let message = format!("{parent:?} cannot be the parent of a cgroup");
            return Err(Error::refused(
                message,
                "give a path below the root of the hierarchies, as in /parent",
            ));
        }
    }
    if asked.cgroups == CgroupMode::Disabled && has_limits(asked) {
        let message = "a container without a cgroup cannot have limits";
        return Err(Error::refused(message, "leave out --cgroups=disabled"));
    }
    Ok(())
}

fn within<T: Into<u64>>(flag: &str, value: Option<T>, least: u64, most: u64) -> Result<()> {
    match value.map(Into::into) {
        Some(value) if value < least || value > most => {
            let expected = if most == u64::MAX {
                format!("at least {least}")
            } else {
                format!("a number from {least} to {most}")
            };
            Err(Error::refused(format!("invalid value {value} of {flag}"), format!("expected {expected}")))
        }
        _ => Ok(()),
    }
}

/// Whether a limit of a cgroup is asked for.
fn has_limits(asked: &Resources) -> bool {
    let other =
        Resources { cgroups: CgroupMode::Enabled, cgroup_parent: None, ulimits: Vec::new(), ..asked.clone() };
    other != Resources::default()
}

/// Refuses limits that the user asked for and this host cannot hold; carrack's own defaults may go without.
pub(crate) fn check_supported(asked: &Resources, unsupported: &[&str]) -> Result<()> {
    let in_conf = |prefixes: &[&str]| {
        asked
            .cgroup_conf
            .keys()
            .any(|key| prefixes.iter().any(|prefix| key.split('.').next() == Some(prefix)))
    };
    let memory = asked.memory_bytes.is_some()
        || asked.memory_reservation_bytes.is_some()
        || asked.memory_swappiness.is_some()
        || asked.oom_kill_disable.is_some();
    let cpu = asked.nano_cpus.is_some()
        || asked.cpu_shares.is_some()
        || asked.cpu_period_us.is_some()
        || asked.cpu_quota_us.is_some()
        || asked.cpu_rt_period_us.is_some()
        || asked.cpu_rt_runtime_us.is_some();
    let devices =
        [&asked.device_read_bps, &asked.device_write_bps, &asked.device_read_iops, &asked.device_write_iops];
    let block_io = asked.blkio_weight.is_some()
        || !asked.blkio_weight_devices.is_empty()
        || devices.iter().any(|devices| !devices.is_empty());
    let asked = [
        ("memory", memory || in_conf(&["memory"])),
        ("cpu", cpu || in_conf(&["cpu"])),
        ("cpuset", asked.cpuset_cpus.is_some() || asked.cpuset_mems.is_some() || in_conf(&["cpuset"])),
        ("pids", asked.pids_limit.is_some_and(|limit| limit > 0) || in_conf(&["pids"])),
        ("blkio", block_io || in_conf(&["io"])),
        ("hugetlb", in_conf(&["hugetlb"])),
        ("rdma", in_conf(&["rdma"])),
        ("misc", in_conf(&["misc"])),
    ];
    match asked.iter().find(|(controller, is_asked)| *is_asked && unsupported.contains(controller)) {
        None => Ok(()),
        Some((controller, _)) => Err(Error::refused(
            format!("cannot hold the limit: this host has no cgroup controller {controller}"),
            "mount the cgroup filesystem, or leave the limit out",
        )),
    }
}

/// Where the cgroup of a sandbox is in each hierarchy; `None` when it has none of its own.
pub(crate) fn cgroup_path(id: &str, resources: &Resources) -> Option<PathBuf> {
    let parent = resources.cgroup_parent.as_deref().unwrap_or("/carrack");
    match resources.cgroups {
        CgroupMode::Disabled => None,
        _ => Some(Path::new("/").join(parent.trim_matches('/')).join(id)),
    }
}

/// What a sandbox announces of its cgroup.
pub(crate) fn cgroup_effect(id: &str, resources: &Resources) -> Option<Effect> {
    cgroup_path(id, resources).map(|path| Effect::Cgroup { path: path.display().to_string() })
}

/// The cgroup of a container that was started.
pub(crate) fn open_cgroup(id: &str, resources: &Resources) -> Result<Option<Cgroup>> {
    Ok(cgroup_path(id, resources).map(|path| Cgroup::open(&path)).transpose()?)
}

/// The same for an operation that needs one.
pub(crate) fn require_cgroup(id: &str, resources: &Resources) -> Result<Cgroup> {
    open_cgroup(id, resources)?.ok_or_else(|| {
        Error::refused("it has no cgroup of its own", "it was created with --cgroups=disabled")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_refused() {
        for wrong in [
            Resources { memory_swap_bytes: Some(1), ..Resources::default() },
            Resources { memory_bytes: Some(9), memory_swap_bytes: Some(8), ..Resources::default() },
            Resources { memory_bytes: Some(9), memory_reservation_bytes: Some(10), ..Resources::default() },
            Resources { nano_cpus: Some(1), cpu_quota_us: Some(5000), ..Resources::default() },
            Resources { cpu_quota_us: Some(5), ..Resources::default() },
            Resources { blkio_weight: Some(5), ..Resources::default() },
            Resources { memory_swappiness: Some(101), ..Resources::default() },
            Resources { cgroup_parent: Some("/a/../..".into()), ..Resources::default() },
            Resources { cgroup_parent: Some("user.slice".into()), ..Resources::default() },
            Resources { cgroup_parent: Some("/".into()), ..Resources::default() },
            Resources { cgroups: CgroupMode::Disabled, pids_limit: Some(5), ..Resources::default() },
        ] {
            assert!(check(&wrong).is_err(), "{wrong:?}");
        }
        let fine = Resources { memory_bytes: Some(9), memory_swap_bytes: Some(-1), ..Resources::default() };
        check(&fine).unwrap();
    }

    #[test]
    fn a_cgroup_is_below_its_parent() {
        let path = |parent: Option<&str>| {
            let resources = Resources { cgroup_parent: parent.map(str::to_owned), ..Resources::default() };
            cgroup_path("id", &resources).unwrap()
        };
        assert_eq!(path(None), Path::new("/carrack/id"));
        assert_eq!(path(Some("a/b/")), Path::new("/a/b/id"));
        let none = Resources { cgroups: CgroupMode::Disabled, ..Resources::default() };
        assert_eq!(cgroup_path("id", &none), None);
    }
}
