//! Limits that change under a running container, what it uses, and device rules on both versions of cgroups.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use carrack_runtime::cgroup::{Cgroup, Layout};
use oci_spec::runtime::{
    LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemoryBuilder,
    LinuxPidsBuilder, LinuxResources, LinuxThrottleDeviceBuilder,
};

use crate::fixture::Container;

/// The content of a file of the container's cgroup, in the v1 hierarchy of `controller` or in the v2 tree.
fn limit(container: &Container, controller: &str, v1_file: &str, v2_file: &str) -> String {
    let layout = Layout::host().unwrap();
    let name = container.cgroup_path().trim_start_matches('/');
    let v1 = layout.v1.iter().find(|hierarchy| hierarchy.has(controller));
    let file: PathBuf = match v1 {
        Some(hierarchy) => hierarchy.folder.join(name).join(v1_file),
        None => layout.v2.unwrap().join(name).join(v2_file),
    };
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())).trim().to_owned()
}

#[test]
fn limits_of_a_running_container_are_set_raised_and_lowered() {
    let mut container = Container::shell("sleep 30 & sleep 30");
    container.start(&[]);
    let cgroup = container.cgroup();
    let memory = |limit: i64, swap: i64| {
        let memory = LinuxMemoryBuilder::default().limit(limit).swap(swap).build().unwrap();
        let mut resources = LinuxResources::default();
        resources.set_devices(None).set_memory(Some(memory));
        resources
    };
    // The container is in no hierarchy that limits memory until now.
    for (bytes, sum) in [(32, 64), (128, 256), (16, 16), (64, -1)] {
        let sum = if sum > 0 { sum << 20 } else { sum };
        assert_eq!(cgroup.update(&memory(bytes << 20, sum)).unwrap(), [""; 0]);
        let seen = limit(&container, "memory", "memory.limit_in_bytes", "memory.max");
        assert_eq!(seen, (bytes << 20).to_string());
    }
    assert_eq!(container.cgroup().stats().unwrap().memory.limit_bytes, Some(64 << 20));
    let members = limit(&container, "memory", "cgroup.procs", "cgroup.procs");
    assert_eq!(members.lines().count(), cgroup.processes().unwrap().len(), "all have joined: {members}");

    let cpu = LinuxCpuBuilder::default().shares(512u64).period(50_000u64).quota(25_000i64).cpus("0");
    let pids = LinuxPidsBuilder::default().limit(17i64).build().unwrap();
    let device = LinuxThrottleDeviceBuilder::default().major(1i64).minor(0i64).rate(1_048_576u64);
    let block_io = LinuxBlockIoBuilder::default().throttle_read_bps_device(vec![device.build().unwrap()]);
    let mut resources = LinuxResources::default();
    resources.set_devices(None).set_cpu(Some(cpu.build().unwrap())).set_pids(Some(pids));
    cgroup.update(&resources).unwrap();
    assert_eq!(limit(&container, "cpu", "cpu.cfs_quota_us", "cpu.max").split(' ').next(), Some("25000"));
    assert_eq!(limit(&container, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(limit(&container, "pids", "pids.max", "pids.max"), "17");
    if Path::new("/sys/dev/block/1:0").exists() {
        let mut resources = LinuxResources::default();
        resources.set_devices(None).set_block_io(Some(block_io.build().unwrap()));
        cgroup.update(&resources).unwrap();
        let seen = limit(&container, "blkio", "blkio.throttle.read_bps_device", "io.max");
        assert!(seen.starts_with("1:0") && seen.contains("1048576"), "{seen}");
    }
}

#[test]
fn a_limit_below_what_is_used_is_refused_where_it_is_to_be_checked() {
    let mut container = Container::new(&["sleep", "30"]);
    let memory = LinuxMemoryBuilder::default().limit(64 << 20).build().unwrap();
    container.resources().set_memory(Some(memory));
    container.start(&[]);
    let memory = LinuxMemoryBuilder::default().limit(4096).check_before_update(true).build().unwrap();
    let mut resources = LinuxResources::default();
    resources.set_devices(None).set_memory(Some(memory));
    let error = container.cgroup().update(&resources).unwrap_err().to_string();
    assert!(error.contains("in use") && error.contains("4096"), "{error}");
}

#[test]
fn what_a_container_uses_is_counted() {
    let mut container = Container::shell("while :; do :; done");
    container.start(&[]);
    let cgroup = container.cgroup();
    let (began, first) = (Instant::now(), cgroup.stats().unwrap());
    let deadline = Instant::now() + Duration::from_secs(20);
    // However busy the machine is: the time on a CPU is what is waited for.
    let used = loop {
        let used = Duration::from_nanos(cgroup.stats().unwrap().cpu.usage_ns - first.cpu.usage_ns);
        if used > Duration::from_millis(200) {
            break used;
        }
        assert!(Instant::now() < deadline, "only {used:?} in 20 s of a busy loop");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(used < began.elapsed() + Duration::from_millis(100), "{used:?} of one thread");
    let stats = cgroup.stats().unwrap();
    assert_eq!(stats.tasks.current, 1);
    assert!((10_000..64 << 20).contains(&stats.memory.usage_bytes), "{}", stats.memory.usage_bytes);
    cgroup.freeze().unwrap();
    // The kernel counts a slice of time some milliseconds after it.
    std::thread::sleep(Duration::from_millis(100));
    let frozen = cgroup.stats().unwrap().cpu.usage_ns;
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(cgroup.stats().unwrap().cpu.usage_ns, frozen, "it stands still");
    cgroup.thaw().unwrap();
}

/// A cgroup of the v2 tree alone, removed when dropped.
struct Unified(Cgroup, PathBuf);

impl Drop for Unified {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.delete();
    }
}

fn rules(allowed_minors: &[i64]) -> LinuxResources {
    let rule = |allow, kind, major, minor| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(allow).set_typ(Some(kind)).set_major(major).set_minor(minor);
        rule.set_access(Some("rwm".to_owned()));
        rule
    };
    let mut all = vec![rule(false, LinuxDeviceType::A, None, None)];
    all.extend(allowed_minors.iter().map(|minor| rule(true, LinuxDeviceType::C, Some(1), Some(*minor))));
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(all));
    resources
}

#[test]
fn a_program_holds_device_rules_in_the_v2_tree() {
    let host = Layout::host().unwrap();
    // A host with v1 alone has nothing to hold.
    let Some(root) = host.v2 else { return };
    let layout = Layout { v1: Vec::new(), v2: Some(root.clone()), v2_controllers: Vec::new() };
    let name = format!("carrack-runtime-test-bpf-{}", std::process::id());
    let cgroup = Cgroup::create_in(&layout, &Path::new("/").join(&name), &rules(&[3])).unwrap();
    let cgroup = Unified(cgroup, root.join(&name));
    assert!(cgroup.0.unsupported().is_empty());
    let open = || {
        let script =
            "echo $$ > \"$1\"/cgroup.procs; for d in null zero full; do (: < /dev/$d) 2>&1 && echo $d; done";
        let output = Command::new("sh").args(["-c", script, "sh"]).arg(&cgroup.1).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let seen = open();
    assert!(seen.starts_with("null\n") && !seen.contains("\nzero\n"), "{seen}");
    assert_eq!(seen.matches("Operation not permitted").count(), 2, "{seen}");
    cgroup.0.update(&rules(&[3, 5])).unwrap();
    let seen = open();
    assert!(seen.starts_with("null\nzero\n"), "the new rules have replaced the old: {seen}");
    assert_eq!(seen.matches("Operation not permitted").count(), 1, "{seen}");
}

#[test]
fn no_program_is_reached_when_a_cgroup_becomes_empty() {
    // cgroup v1 runs the file of `release_agent` as root of the host (CVE-2022-0492).
    let script = "find() { for d in /sys/fs/cgroup/*; do \
        echo x > $d/release_agent; echo 1 > $d/notify_on_release; mkdir $d/below; done; }; find; \
        mount -o remount,rw /sys/fs/cgroup/devices; mkdir /tmp/c; mount -t cgroup -o devices c /tmp/c; echo ended";
    let container = Container::shell(&format!("({script}) 2>&1"));
    let seen = container.stdout();
    assert!(seen.ends_with("ended"), "{seen}");
    assert!(!seen.contains("nonexistent"), "{seen}");
    for line in seen.lines().filter(|line| *line != "ended") {
        let refused = ["Read-only", "ermission denied", "No such file", "not permitted", "can't create"];
        assert!(refused.iter().any(|word| line.contains(word)), "{line}");
    }
    // Nor with the right to mount: the file is only in the root of a hierarchy, which is outside the cgroup namespace.
    let mut container = Container::shell(&format!("({script}; ls /tmp/c) 2>&1"));
    let all = carrack_runtime::spec::capabilities(&carrack_runtime::capabilities::ALL.into());
    container.process().set_capabilities(Some(all));
    container.spec.linux_mut().as_mut().unwrap().set_seccomp(None);
    let seen = container.stdout();
    assert!(!seen.lines().any(|line| line == "release_agent"), "{seen}");
}
