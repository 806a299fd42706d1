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
    assert_eq!(content(&root, "cgroup.subtree_control"), "+memory +pids +cpu");
    assert_eq!(content(&root, "carrack/cgroup.subtree_control"), "+memory +pids +cpu");
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
