//! Resource flags, seen in the files of the cgroup, and `update`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::kit::{IMAGE, run, store};
use crate::{cgroup_file, cgroups, detached, inspect};

const MEMORY: &[&str] = &["memory.limit_in_bytes", "memory.max"];

#[test]
fn limits_are_in_the_files_of_the_cgroup_and_in_inspect() {
    let store = store();
    let flags = [
        "--name",
        "one",
        "-m",
        "64m",
        "--memory-swap",
        "96m",
        "--memory-reservation",
        "32m",
        "--cpu-period",
        "50000",
        "--cpu-quota",
        "20000",
        "--cpu-shares",
        "512",
        "--cpuset-cpus",
        "0",
        "--cpuset-mems",
        "0",
        "--pids-limit",
        "55",
    ];
    let id = detached(&store, &flags, "sleep 1000");
    assert_eq!(cgroup_file(&id, MEMORY), "67108864");
    assert_eq!(cgroup_file(&id, &["memory.soft_limit_in_bytes", "memory.low"]), "33554432");
    assert!(["20000", "20000 50000"].contains(&cgroup_file(&id, &["cpu.cfs_quota_us", "cpu.max"]).as_str()));
    assert!(["512", "20"].contains(&cgroup_file(&id, &["cpu.shares", "cpu.weight"]).as_str()));
    assert_eq!(cgroup_file(&id, &["cpuset.cpus"]), "0");
    assert_eq!(cgroup_file(&id, &["cpuset.mems"]), "0");
    assert_eq!(cgroup_file(&id, &["pids.max"]), "55");
    let format = "{{with .HostConfig}}{{.Memory}} {{.MemorySwap}} {{.MemoryReservation}} {{.CpuPeriod}} \
                  {{.CpuQuota}} {{.CpuShares}} {{.CpusetCpus}} {{.CpusetMems}} {{.PidsLimit}}{{end}}";
    assert_eq!(inspect(&store, "one", format), "67108864 100663296 33554432 50000 20000 512 0 0 55");
    assert_eq!(
        inspect(&store, "one", "{{.HostConfig.Cgroups}} {{json .HostConfig.CgroupConf}}"),
        "default {}"
    );
}

/// Limits that some kernels and versions of cgroups have: each holds, or is refused.
#[test]
fn limits_that_not_every_host_has_hold_or_are_refused() {
    let store = store();
    let cases: [(&[&str], &str, &str); 3] = [
        (&["-m", "64m", "--oom-kill-disable"], "memory/memory.oom_control", "oom_kill_disable 1"),
        (&["-m", "64m", "--memory-swappiness", "10"], "memory/memory.swappiness", "10"),
        (&["--cpu-rt-period", "1000000", "--cpu-rt-runtime", "1000"], "cpu/cpu.rt_runtime_us", "1000"),
    ];
    for (flags, file, expected) in cases {
        if !Path::new("/sys/fs/cgroup").join(file).exists() {
            assert_eq!(run(&store, flags, "true").code, 125, "{flags:?}");
            continue;
        }
        let id = detached(&store, flags, "sleep 1000");
        let name = file.split_once('/').expect("controller and file").1;
        let seen = cgroup_file(&id, &[name]);
        assert!(seen.lines().any(|line| line == expected), "{flags:?}: {seen}");
        store.carrack(["rm", "--force", &id]).success();
    }
}

#[test]
fn block_devices_have_limits() {
    let store = store();
    let devices = fs::read_dir("/sys/class/block").unwrap().flatten();
    let is_disk = |name: &String| Path::new("/dev").join(name).exists() && !name.starts_with("loop");
    let names = devices.filter_map(|entry| entry.file_name().into_string().ok());
    let mut disks = names.filter(|name| !Path::new("/sys/class/block").join(name).join("partition").exists());
    // A host without disks has no limits of them.
    let Some(disk) = disks.find(is_disk) else { return };
    let rate = format!("/dev/{disk}:2m");
    let id = detached(&store, &["--name", "one", "--device-read-bps", &rate], "sleep 1000");
    let seen = cgroup_file(&id, &["blkio.throttle.read_bps_device", "io.max"]);
    assert!(seen.contains("2097152"), "{seen}");
    let format = "{{range .HostConfig.BlkioDeviceReadBps}}{{.Path}} {{.Rate}}{{end}}";
    assert_eq!(inspect(&store, "one", format), format!("/dev/{disk} 2097152"));
    let refused = run(&store, &["--device-write-bps", "/etc/passwd:1m"], "true").code(125);
    assert!(refused.stderr.contains("no block device"), "{}", refused.stderr);
}

#[test]
fn an_update_holds_at_once_and_at_the_next_start() {
    let store = store();
    let id = detached(&store, &["--name", "one"], "sleep 1000");
    assert_eq!(store.carrack(["update", "-m", "48m", "--pids-limit", "33", "one"]).line(), "one");
    assert_eq!(
        (cgroup_file(&id, MEMORY).as_str(), cgroup_file(&id, &["pids.max"]).as_str()),
        ("50331648", "33")
    );
    let cpus = || cgroup_file(&id, &["cpu.cfs_quota_us", "cpu.max"]).split(' ').next().unwrap().to_owned();
    store.carrack(["update", "--cpus", "0.5", "one"]).success();
    assert_eq!(cpus(), "50000");
    store.carrack(["container", "update", "-m", "128m", "one"]).success();
    assert_eq!(cgroup_file(&id, MEMORY), "134217728");
    for wrong in [&["--memory-swap", "1m"][..], &["--cpu-quota", "20000", "--cpus", "1"], &[]] {
        let before = cgroup_file(&id, MEMORY);
        assert_ne!(store.carrack([&["update"], wrong, &["one"]].concat()).code, 0, "{wrong:?}");
        assert_eq!(cgroup_file(&id, MEMORY), before, "{wrong:?}");
    }
    assert_eq!(
        inspect(&store, "one", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}"),
        "134217728 500000000"
    );
    store.carrack(["stop", "--time", "0", "one"]).success();
    store.carrack(["update", "--pids-limit", "44", "one"]).success();
    store.carrack(["start", "one"]).success();
    assert_eq!(
        (cgroup_file(&id, MEMORY).as_str(), cgroup_file(&id, &["pids.max"]).as_str()),
        ("134217728", "44")
    );
    assert_eq!(cpus(), "50000");
}

#[test]
fn the_cgroup_is_where_the_user_wants_it_or_nowhere() {
    let store = store();
    let parent = format!("carrack-test-parent-{}", std::process::id());
    let id = detached(&store, &["--name", "one", "--cgroup-parent", &parent], "sleep 1000");
    assert!(cgroups(&id).is_empty());
    let init = inspect(&store, "one", "{{.State.Pid}}");
    let seen = fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap();
    assert!(seen.contains(&format!("/{parent}/{id}")), "{seen}");
    assert_eq!(inspect(&store, "one", "{{.HostConfig.CgroupParent}}"), parent);
    store.carrack(["exec", "one", "true"]).success();
    store.carrack(["pause", "one"]).success();
    store.carrack(["rm", "--force", "one"]).success();
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    for folder in hierarchies.chain(["/sys/fs/cgroup".into()]).map(|folder| folder.join(&parent)) {
        assert!(!folder.join(&id).exists(), "{}", folder.display());
        let _ = fs::remove_dir(folder);
    }
    let id = detached(&store, &["--name", "two", "--cgroups", "disabled"], "sleep 1000");
    assert!(cgroups(&id).is_empty());
    store.carrack(["exec", "two", "true"]).success();
    assert!(store.carrack(["top", "two"]).success().stdout.contains("sleep 1000"));
    store.carrack(["pause", "two"]).code(1);
    store.carrack(["stop", "--time", "0", "two"]).success();
    assert_eq!(run(&store, &["--cgroups", "no-conmon"], "echo ran").line(), "ran");
}

#[test]
fn limits_that_nobody_can_hold_are_refused() {
    let store = store();
    for flags in [
        &["--kernel-memory", "1g"][..],
        &["--cpus", "1", "--cpu-quota", "50000"],
        &["--cpu-quota", "5"],
        &["--blkio-weight", "5"],
        &["--memory-swappiness", "101"],
        &["-m", "64m", "--memory-reservation", "65m"],
        &["--cgroup-parent", "machine.slice"],
        &["--cgroup-parent", "/a/../../b"],
        &["--cgroups", "split"],
        &["--cgroups", "disabled", "-m", "64m"],
        &["--cgroup-conf", "../x=1"],
        &["--cgroup-conf", "cgroup.procs=1"],
    ] {
        let refused = run(&store, flags, "true");
        assert_eq!(refused.code, 125, "{flags:?}: {}", refused.stderr);
    }
    assert_eq!(store.container_ids(), Vec::<String>::new());
    store.carrack(["run", "--rm", "--network", "none", "--ulimit", "host", IMAGE, "true"]).success();
}

#[test]
fn cgroups_that_an_update_adds_go_with_the_container() {
    let store = store();
    let id = detached(&store, &["--name", "one"], crate::UNTIL_TERM);
    let before = cgroups(&id).len();
    store.carrack(["update", "--memory", "64m", "--cpus", "0.5", "one"]).success();
    assert!(cgroups(&id).len() >= before);
    store.carrack(["rm", "--force", "one"]).success();
    assert_eq!(cgroups(&id), Vec::<PathBuf>::new());
}
