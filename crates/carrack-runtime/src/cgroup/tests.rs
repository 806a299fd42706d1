//! Layouts and limits on folders that look like hierarchies.

use super::*;
use oci_spec::runtime::{LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResourcesBuilder};
use tempfile::TempDir;

fn file(root: &TempDir, path: &str, content: &str) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn content(root: &TempDir, path: &str) -> String {
    fs::read_to_string(root.path().join(path)).unwrap()
}

fn resources() -> LinuxResources {
    let memory = LinuxMemoryBuilder::default().limit(1000i64).swap(1500i64).build().unwrap();
    let cpu = LinuxCpuBuilder::default().shares(1024u64).quota(50_000i64).build().unwrap();
    let pids = LinuxPidsBuilder::default().limit(7i64).build().unwrap();
    LinuxResourcesBuilder::default().memory(memory).cpu(cpu).pids(pids).build().unwrap()
}

/// A v2 tree whose folder `carrack/one` has the files that the kernel would make.
fn v2_tree() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    file(&root, "cgroup.controllers", "cpuset cpu io memory pids\n");
    for folder in ["", "carrack/"] {
        file(&root, &format!("{folder}cgroup.subtree_control"), "");
    }
    for name in ["memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "pids.max", "cgroup.procs"] {
        file(&root, &format!("carrack/one/{name}"), "");
    }
    root
}

#[test]
fn v2_limits_are_written_as_v2_counts_them() {
    let root = v2_tree();
    let layout = Layout::detect(root.path()).unwrap();
    let cgroup = Cgroup::create_in(&layout, Path::new("/carrack/one"), &resources()).unwrap();
    cgroup.add(42).unwrap();
    assert_eq!(content(&root, "cgroup.subtree_control"), "+memory +pids +cpu +io");
    assert_eq!(content(&root, "carrack/cgroup.subtree_control"), "+memory +pids +cpu +io");
    assert_eq!(content(&root, "carrack/one/memory.max"), "1000");
    assert_eq!(content(&root, "carrack/one/memory.swap.max"), "500");
    assert_eq!(content(&root, "carrack/one/cpu.max"), "50000 100000");
    assert_eq!(content(&root, "carrack/one/cpu.weight"), "39");
    assert_eq!(content(&root, "carrack/one/pids.max"), "7");
    assert_eq!(content(&root, "carrack/one/cgroup.procs"), "42");
    assert!(cgroup.unsupported().is_empty());
}

#[test]
fn an_oom_kill_is_seen_on_v2() {
    let root = v2_tree();
    let layout = Layout::detect(root.path()).unwrap();
    let cgroup = Cgroup::open_in(&layout, Path::new("/carrack/one")).unwrap();
    file(&root, "carrack/one/memory.events", "low 0\noom 1\noom_kill 0\n");
    assert!(!cgroup.oom_killed().unwrap());
    file(&root, "carrack/one/memory.events", "low 0\noom 1\noom_kill 2\noom_group_kill 0\n");
    assert!(cgroup.oom_killed().unwrap());
}

#[test]
fn on_a_hybrid_host_only_needed_hierarchies_and_the_v2_tree_are_used() {
    let root = tempfile::tempdir().unwrap();
    for (name, limit) in
        [("memory", "memory.limit_in_bytes"), ("cpu,cpuacct", "cpu.cfs_quota_us"), ("blkio", "x")]
    {
        file(&root, &format!("{name}/cgroup.procs"), "");
        file(&root, &format!("{name}/a/{limit}"), "");
    }
    file(&root, "cpu,cpuacct/a/cpu.shares", "");
    file(&root, "unified/cgroup.controllers", "\n");
    fs::remove_dir_all(root.path().join("blkio/a")).unwrap();
    std::os::unix::fs::symlink("cpu,cpuacct", root.path().join("cpu")).unwrap();
    let layout = Layout::detect(root.path()).unwrap();
    let cgroup = Cgroup::create_in(&layout, Path::new("/a"), &resources()).unwrap();
    assert_eq!(content(&root, "memory/a/memory.limit_in_bytes"), "1000");
    assert_eq!(content(&root, "cpu,cpuacct/a/cpu.cfs_quota_us"), "50000");
    assert!(root.path().join("unified/a").is_dir());
    assert!(!root.path().join("blkio/a").exists());
    assert_eq!(cgroup.unsupported(), ["pids"], "no hierarchy has it");
}

#[test]
fn everywhere_is_each_hierarchy_with_controllers() {
    let root = tempfile::tempdir().unwrap();
    for name in ["memory", "cpu,cpuacct", "pids", "systemd", "name=own"] {
        file(&root, &format!("{name}/cgroup.procs"), "");
    }
    file(&root, "pids/a/pids.max", "");
    let layout = Layout::detect(root.path()).unwrap();
    let resources = serde_json::from_value(serde_json::json!({"pids": {"limit": 7}})).unwrap();
    let cgroup = Cgroup::create_everywhere(&layout, Path::new("/a"), &resources).unwrap();
    assert_eq!(content(&root, "pids/a/pids.max"), "7");
    let is_there = |name: &str| root.path().join(name).join("a").is_dir();
    assert!(["memory", "cpu,cpuacct", "pids"].iter().all(|name| is_there(name)));
    assert!(!is_there("systemd") && !is_there("name=own"));
    assert!(cgroup.unsupported().is_empty());
}

#[test]
fn a_cpuset_inherits_what_it_does_not_get() {
    let root = tempfile::tempdir().unwrap();
    file(&root, "cpuset/cgroup.procs", "");
    for (folder, cpus, mems) in [("", "0-3\n", "0\n"), ("carrack/", "", ""), ("carrack/one/", "", "")] {
        file(&root, &format!("cpuset/{folder}cpuset.cpus"), cpus);
        file(&root, &format!("cpuset/{folder}cpuset.mems"), mems);
    }
    let cpu = LinuxCpuBuilder::default().cpus("1").build().unwrap();
    let resources = LinuxResourcesBuilder::default().cpu(cpu).build().unwrap();
    let layout = Layout::detect(root.path()).unwrap();
    Cgroup::create_in(&layout, Path::new("/carrack/one"), &resources).unwrap();
    assert_eq!(content(&root, "cpuset/carrack/cpuset.cpus"), "0-3");
    assert_eq!(content(&root, "cpuset/carrack/one/cpuset.mems"), "0");
    assert!(content(&root, "cpuset/carrack/one/cpuset.cpus").starts_with('1'));
}

#[test]
fn paths_that_leave_the_hierarchy_are_refused() {
    let root = v2_tree();
    let layout = Layout::detect(root.path()).unwrap();
    for path in ["/", "a", "/a/../..", "/..", ""] {
        let result = Cgroup::create_in(&layout, Path::new(path), &LinuxResources::default());
        assert!(matches!(result, Err(Error::Spec { .. })), "{path}");
    }
}

#[test]
fn a_v2_file_name_cannot_leave_the_cgroup() {
    let root = v2_tree();
    let layout = Layout::detect(root.path()).unwrap();
    for name in ["../memory.max", "/proc/sys/kernel/core_pattern", "tasks"] {
        let unified = [(name.to_owned(), "1".to_owned())].into();
        let resources = LinuxResourcesBuilder::default().unified::<std::collections::HashMap<_, _>>(unified);
        let resources = resources.build().unwrap();
        let result = Cgroup::create_in(&layout, Path::new("/carrack/one"), &resources);
        assert!(matches!(result, Err(Error::Spec { .. })), "{name}");
        file(&root, "carrack/one/memory.max", "");
    }
}

fn v1_tree(hierarchy: &str, files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    file(&root, &format!("{hierarchy}/cgroup.procs"), "");
    for (name, content) in files {
        file(&root, &format!("{hierarchy}/one/{name}"), content);
    }
    root
}

fn create(root: &TempDir, change: impl FnOnce(&mut LinuxResources)) -> Result<Cgroup> {
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    change(&mut resources);
    Cgroup::create_in(&Layout::detect(root.path()).unwrap(), Path::new("/one"), &resources)
}

#[test]
fn v1_limits_of_every_controller() {
    let root = v1_tree(
        "all",
        &[
            ("blkio.bfq.weight", ""),
            ("blkio.bfq.weight_device", ""),
            ("blkio.throttle.write_iops_device", ""),
            ("hugetlb.2MB.limit_in_bytes", ""),
            ("net_cls.classid", ""),
            ("net_prio.ifpriomap", ""),
            ("rdma.max", ""),
            ("memory.swappiness", ""),
            ("memory.oom_control", ""),
            ("memory.soft_limit_in_bytes", ""),
            ("memory.kmem.tcp.limit_in_bytes", ""),
            ("memory.use_hierarchy", ""),
            ("blkio.leaf_weight", ""),
            ("cpu.cfs_burst_us", ""),
            ("cpu.idle", ""),
        ],
    );
    let all = "blkio,hugetlb,net_cls,net_prio,rdma,memory,cpu";
    fs::rename(root.path().join("all"), root.path().join(all)).unwrap();
    let json = serde_json::json!({
        "blockIO": {
            "weight": 500, "leafWeight": 40, "weightDevice": [{"major": 8, "minor": 0, "weight": 300}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 12}],
        },
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
        "network": {"classID": 1_048_577, "priorities": [{"name": "eth0", "priority": 5}]},
        "rdma": {"mlx5_0": {"hcaHandles": 2, "hcaObjects": 20}},
        "memory": {
            "swappiness": 10, "disableOOMKiller": true, "reservation": 4096, "kernelTCP": 8192, "useHierarchy": true,
        },
        "cpu": {"burst": 100, "idle": 1},
    });
    create(&root, |resources| *resources = serde_json::from_value(json).unwrap()).unwrap();
    for (name, expected) in [
        ("blkio.leaf_weight", "40"),
        ("memory.kmem.tcp.limit_in_bytes", "8192"),
        ("memory.use_hierarchy", "1"),
        ("cpu.idle", "1"),
        ("blkio.bfq.weight", "500"),
        ("blkio.bfq.weight_device", "8:0 300"),
        ("blkio.throttle.write_iops_device", "8:0 12"),
        ("hugetlb.2MB.limit_in_bytes", "4194304"),
        ("net_cls.classid", "1048577"),
        ("net_prio.ifpriomap", "eth0 5"),
        ("rdma.max", "mlx5_0 hca_handle=2 hca_object=20"),
        ("memory.swappiness", "10"),
        ("memory.oom_control", "1"),
        ("memory.soft_limit_in_bytes", "4096"),
        ("cpu.cfs_burst_us", "100"),
    ] {
        assert_eq!(content(&root, &format!("{all}/one/{name}")), expected, "{name}");
    }
}

#[test]
fn v2_limits_of_every_controller() {
    let root = v2_tree();
    file(&root, "cgroup.controllers", "cpuset cpu io memory pids hugetlb rdma\n");
    for (name, text) in [
        ("io.weight", ""),
        ("io.max", ""),
        ("hugetlb.2MB.max", ""),
        ("rdma.max", ""),
        ("memory.low", ""),
        ("memory.high", ""),
        ("cpu.max", "25000 50000\n"),
        ("cpu.max.burst", ""),
        ("cpu.idle", ""),
    ] {
        file(&root, &format!("one/{name}"), text);
    }
    file(&root, "one/memory.max", "1000\n");
    file(&root, "one/memory.swap.max", "");
    let json = serde_json::json!({
        "blockIO": {"weight": 500, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 12}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
        "rdma": {"mlx5_0": {"hcaHandles": 2}},
        "memory": {"reservation": 500, "swap": 1700},
        "cpu": {"quota": 30_000, "burst": 100, "idle": 1},
        "unified": {"memory.high": "900"},
    });
    create(&root, |resources| *resources = serde_json::from_value(json).unwrap()).unwrap();
    for (name, expected) in [
        ("io.weight", "4950"),
        ("io.max", "8:0 rbps=12"),
        ("hugetlb.2MB.max", "4194304"),
        ("rdma.max", "mlx5_0 hca_handle=2"),
        ("memory.low", "500"),
        ("memory.swap.max", "700"),
        ("memory.high", "900"),
        ("cpu.max.burst", "100"),
        ("cpu.idle", "1"),
    ] {
        assert_eq!(content(&root, &format!("one/{name}")), expected, "{name}");
    }
    assert!(content(&root, "one/cpu.max").starts_with("30000 50000"), "the period stays");
}

#[test]
fn what_a_version_of_cgroups_cannot_hold_is_refused() {
    let root = v2_tree();
    for name in ["memory.max", "cpu.max", "io.max"] {
        file(&root, &format!("one/{name}"), "");
    }
    for json in [
        serde_json::json!({"memory": {"swappiness": 10}}),
        serde_json::json!({"memory": {"disableOOMKiller": true}}),
        serde_json::json!({"memory": {"limit": 2000, "swap": 1000}}),
        serde_json::json!({"memory": {"kernelTCP": 4096}}),
        serde_json::json!({"cpu": {"realtimeRuntime": 10}}),
        serde_json::json!({"cpu": {"realtimePeriod": 10}}),
        serde_json::json!({"blockIO": {"leafWeight": 10}}),
        serde_json::json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 10}]}}),
        serde_json::json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0}]}}),
        serde_json::json!({"rdma": {"mlx5_0": {}}}),
        serde_json::json!({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}),
        serde_json::json!({"rdma": {"a b": {"hcaHandles": 1}}}),
        serde_json::json!({"unified": {"cgroup.procs": "1"}}),
    ] {
        let made = create(&root, |resources| *resources = serde_json::from_value(json.clone()).unwrap());
        assert!(matches!(made, Err(Error::Spec { .. })), "{json}");
        for name in ["memory.max", "cpu.max", "io.max"] {
            file(&root, &format!("one/{name}"), "");
        }
    }
    let root = v1_tree("memory", &[]);
    let unified = serde_json::json!({"unified": {"memory.high": "1"}});
    assert!(create(&root, |resources| *resources = serde_json::from_value(unified).unwrap()).is_err());
}

#[test]
fn the_sum_with_swap_is_never_below_the_limit() {
    // The order shows in what is left when the second write fails.
    let order = |current: &str, limit: i64, swap: i64| {
        let root = v1_tree("memory", &[("memory.memsw.limit_in_bytes", current)]);
        let memory = LinuxMemoryBuilder::default().limit(limit).swap(swap).build().unwrap();
        let folder = root.path().join("memory/one");
        let resources = |resources: &mut LinuxResources| {
            resources.set_memory(Some(memory));
        };
        let error = create(&root, resources).unwrap_err().to_string();
        assert!(error.contains("memory.limit_in_bytes"), "{error}");
        fs::read_to_string(folder.join("memory.memsw.limit_in_bytes")).unwrap()
    };
    assert!(order("1000", 2000, 3000).starts_with("3000"), "raised first");
    assert!(order("1000", 2000, -1).starts_with("-1"), "no limit first");
    assert!(order("5000", 2000, 3000).starts_with("5000"), "lowered last");
}
