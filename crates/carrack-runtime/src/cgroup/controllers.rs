//! Which controllers a set of limits needs, by the names that v1 has for them.

use oci_spec::runtime::{LinuxCpu, LinuxResources};

/// Controllers of v2 beside those that v1 has too under the same name.
const UNIFIED: [(&str, &str); 8] = [
    ("cpu", "cpu"),
    ("cpuset", "cpuset"),
    ("hugetlb", "hugetlb"),
    ("io", "blkio"),
    ("memory", "memory"),
    ("misc", "misc"),
    ("pids", "pids"),
    ("rdma", "rdma"),
];

/// Controllers that count what a container uses, where they cost nothing: in the v2 tree.
pub(super) const ACCOUNTING: [&str; 3] = ["memory", "io", "pids"];

/// Controllers that `resources` needs.
pub(super) fn needed(resources: &LinuxResources) -> Vec<&'static str> {
    let network = resources.network().as_ref();
    let wanted = [
        ("memory", resources.memory().is_some()),
        ("pids", resources.pids().is_some()),
        ("cpu", resources.cpu().as_ref().is_some_and(in_time)),
        ("cpuset", resources.cpu().as_ref().is_some_and(in_place)),
        ("blkio", resources.block_io().is_some()),
        ("hugetlb", resources.hugepage_limits().as_ref().is_some_and(|limits| !limits.is_empty())),
        ("net_cls", network.is_some_and(|network| network.class_id().is_some())),
        (
            "net_prio",
            network.is_some_and(|network| network.priorities().as_ref().is_some_and(|all| !all.is_empty())),
        ),
        ("rdma", resources.rdma().as_ref().is_some_and(|limits| !limits.is_empty())),
        ("devices", resources.devices().as_ref().is_some_and(|rules| !rules.is_empty())),
    ];
    let mut names: Vec<_> = wanted.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect();
    for key in resources.unified().iter().flatten().map(|(key, _)| key) {
        let prefix = key.split('.').next().unwrap_or_default();
        let of_v2 = UNIFIED.iter().find(|(name, _)| *name == prefix).map(|(_, name)| *name);
        names.extend(of_v2.filter(|name| !names.contains(name)));
    }
    names
}

/// The name that v2 has for a controller of v1; `None` where v2 has none.
pub(super) fn in_v2(name: &str) -> Option<&'static str> {
    UNIFIED.iter().find(|(_, of_v1)| *of_v1 == name).map(|(of_v2, _)| *of_v2)
}

fn in_time(cpu: &LinuxCpu) -> bool {
    cpu.shares().is_some()
        || cpu.quota().is_some()
        || cpu.period().is_some()
        || cpu.burst().is_some()
        || cpu.idle().is_some()
        || cpu.realtime_runtime().is_some()
        || cpu.realtime_period().is_some()
}

fn in_place(cpu: &LinuxCpu) -> bool {
    cpu.cpus().is_some() || cpu.mems().is_some()
}
