//! What limits mean together, where the cgroup of a container is, and what this host cannot hold.

use std::path::Path;

use carrack_container::{CgroupManager, CgroupMode, Effect, Resources};
use carrack_runtime::cgroup::{Cgroup, Place, Scope};

use crate::{Error, Result};

/// Where systemd has containers, as podman's.
const DEFAULT_SLICE: &str = "machine.slice";
/// What the names of our scopes begin with.
const PREFIX: &str = "carrack";

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
    if asked.cgroups != CgroupMode::Disabled && asked.cgroup_manager == CgroupManager::Systemd {
        require_systemd()?;
    }
    if let Some(parent) = &asked.cgroup_parent {
        check_parent(parent, asked.cgroup_manager)?;
    }
    if asked.cgroups == CgroupMode::Disabled && has_limits(asked) {
        let message = "a container without a cgroup cannot have limits";
        return Err(Error::refused(message, "leave out --cgroups=disabled"));
    }
    Ok(())
}

fn check_parent(parent: &str, manager: CgroupManager) -> Result<()> {
    let is_slice = parent.ends_with(".slice");
    let is_plain = parent.split('/').all(|part| part != ".." && part != ".") && !parent.contains('\0');
    match manager {
        CgroupManager::Systemd => Scope::new(parent, PREFIX, "name").map(drop).map_err(|error| {
            let hint = "systemd makes the cgroups: give the name of a slice, as in machine.slice";
            Error::refused(error.to_string(), hint)
        }),
        CgroupManager::Cgroupfs if is_slice => Err(Error::refused(
            format!("{parent} is a slice of systemd, and carrack makes cgroups itself"),
            "give a path below the root of the hierarchies, as in /parent, or use --cgroup-manager=systemd",
        )),
        CgroupManager::Cgroupfs if !is_plain || parent.trim_matches('/').is_empty() => Err(Error::refused(
            format!("{parent:?} cannot be the parent of a cgroup"),
            "give a path below the root of the hierarchies, as in /parent",
        )),
        CgroupManager::Cgroupfs => Ok(()),
    }
}

/// As sd_booted(3) has it.
fn require_systemd() -> Result<()> {
    match Path::new("/run/systemd/system").is_dir() {
        true => Ok(()),
        false => Err(Error::refused(
            "systemd is to make the cgroup, and does not run on this host",
            "use --cgroup-manager=cgroupfs, and look for cgroup_manager in the settings",
        )),
    }
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
    let other = Resources {
        cgroups: CgroupMode::Enabled,
        cgroup_manager: CgroupManager::Cgroupfs,
        cgroup_parent: None,
        ulimits: Vec::new(),
        ..asked.clone()
    };
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

/// The cgroup of a sandbox; `None` when it has none of its own.
pub(crate) fn cgroup_place(id: &str, resources: &Resources) -> Result<Option<Place>> {
    let parent = resources.cgroup_parent.as_deref();
    Ok(match (resources.cgroups, resources.cgroup_manager) {
        (CgroupMode::Disabled, _) => None,
        (_, CgroupManager::Cgroupfs) => {
            let parent = parent.unwrap_or("/carrack").trim_matches('/');
            Some(Place::Path(Path::new("/").join(parent).join(id)))
        }
        (_, CgroupManager::Systemd) => {
            Some(Place::Scope(Scope::new(parent.unwrap_or(DEFAULT_SLICE), PREFIX, id)?))
        }
    })
}

/// What a sandbox announces of its cgroup.
pub(crate) fn cgroup_effect(place: &Place) -> Effect {
    match place {
        Place::Path(path) => Effect::Cgroup { path: path.display().to_string() },
        Place::Scope(Scope { slice, unit }) => Effect::Scope { slice: slice.clone(), unit: unit.clone() },
    }
}

/// The cgroup of a container that was started.
pub(crate) fn open_cgroup(id: &str, resources: &Resources) -> Result<Option<Cgroup>> {
    let place = cgroup_place(id, resources)?;
    Ok(place.map(|place| Cgroup::open_at(&place)).transpose()?)
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
        let path = |cgroup_manager, parent: Option<&str>| {
            let cgroup_parent = parent.map(str::to_owned);
            let resources = Resources { cgroup_parent, cgroup_manager, ..Resources::default() };
            cgroup_place("id", &resources).unwrap().unwrap().path().display().to_string()
        };
        let (ours, systemd) = (CgroupManager::Cgroupfs, CgroupManager::Systemd);
        assert_eq!((path(ours, None), path(ours, Some("a/b/"))), ("/carrack/id".into(), "/a/b/id".into()));
        assert_eq!(path(systemd, None), "/machine.slice/carrack-id.scope");
        assert_eq!(path(systemd, Some("a-b.slice")), "/a.slice/a-b.slice/carrack-id.scope");
        let none = Resources { cgroups: CgroupMode::Disabled, ..Resources::default() };
        assert_eq!(cgroup_place("id", &none).unwrap(), None);
    }

    #[test]
    fn a_parent_is_of_the_kind_that_the_manager_makes() {
        let (ours, systemd) = (CgroupManager::Cgroupfs, CgroupManager::Systemd);
        for (parent, manager, is_right) in [
            ("/a/b", ours, true),
            ("user.slice", ours, false),
            ("user.slice", systemd, true),
            ("/a/b", systemd, false),
            ("a--b.slice", systemd, false),
        ] {
            assert_eq!(check_parent(parent, manager).is_ok(), is_right, "{parent}");
        }
    }
}
