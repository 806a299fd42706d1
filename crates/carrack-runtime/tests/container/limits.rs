//! Limits hold: memory, processes, devices, resource limits. And cgroups go away.

use carrack_runtime::cgroup::{Cgroup, Layout};
use oci_spec::runtime::{LinuxMemoryBuilder, LinuxPidsBuilder, PosixRlimitBuilder, PosixRlimitType};

use crate::fixture::Container;
use crate::{stderr, stdout};

#[test]
fn a_program_above_its_memory_is_killed_and_this_is_told() {
    let mut container = Container::shell("head -c 64000000 /dev/zero | tail | wc -c; echo ended");
    let memory = LinuxMemoryBuilder::default().limit(16 << 20).swap(16 << 20).build().unwrap();
    container.resources().set_memory(Some(memory));
    let output = container.run();
    assert!(!stdout(&output).starts_with("64000000"), "{}", stdout(&output));
    assert!(container.cgroup().oom_killed().unwrap());
}

#[test]
fn no_more_processes_than_allowed() {
    let mut container = Container::shell("for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; echo all");
    container.resources().set_pids(Some(LinuxPidsBuilder::default().limit(5i64).build().unwrap()));
    let output = container.run();
    assert!(stderr(&output).contains("can't fork"), "{}", stderr(&output));
}

#[test]
fn devices_that_are_not_allowed_cannot_be_opened_however_they_got_there() {
    let mut container =
        Container::shell("cat /dev/disk > /dev/null; cat /mem > /dev/null; mknod /tmp/x c 1 1; echo $?");
    let disk = oci_spec::runtime::LinuxDeviceBuilder::default().path("/dev/disk").major(7i64).minor(0i64);
    let disk = disk.typ(oci_spec::runtime::LinuxDeviceType::B).build().unwrap();
    container.spec.linux_mut().as_mut().unwrap().set_devices(Some(vec![disk]));
    // As if a layer held the node.
    let device = rustix::fs::makedev(1, 1);
    let kind = rustix::fs::FileType::CharacterDevice;
    let path = container.path("/mem");
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, rustix::fs::Mode::RWXU, device).unwrap();
    let output = container.run();
    let text = stderr(&output);
    assert!(text.contains("/dev/disk': Operation not permitted"), "{text}");
    assert!(text.contains("/mem': Permission denied"), "the root has no device files: {text}");
    assert_eq!(stdout(&output), "1");
}

#[test]
fn resource_limits_are_set_and_lowered_to_what_is_possible() {
    let mut container = Container::shell("ulimit -n; ulimit -c");
    let limit = |kind, soft: u64, hard: u64| {
        PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build().unwrap()
    };
    container.process().set_rlimits(Some(vec![
        limit(PosixRlimitType::RlimitNofile, 77, 88),
        limit(PosixRlimitType::RlimitCore, 0, u64::MAX),
        limit(PosixRlimitType::RlimitNproc, u64::MAX, u64::MAX),
    ]));
    assert_eq!(container.stdout(), "77\n0");
    let may_raise = rustix::thread::capabilities(None).unwrap().effective;
    if !may_raise.contains(rustix::thread::CapabilitySet::SYS_RESOURCE) {
        let warning = stderr(&container.run());
        assert!(warning.contains("RLIMIT_NPROC") && warning.contains("CAP_SYS_RESOURCE"), "{warning}");
    }
}

#[test]
fn a_frozen_container_stands_still_and_goes_on() {
    let mut container = Container::shell("while true; do echo x; sleep 0.01; done");
    container.start(&[]);
    let cgroup = container.cgroup();
    cgroup.freeze().unwrap();
    let v2 = Layout::host().unwrap().v2.unwrap().join(container.cgroup_path().trim_start_matches('/'));
    assert!(std::fs::read_to_string(v2.join("cgroup.events")).unwrap().contains("frozen 1"));
    cgroup.thaw().unwrap();
    cgroup.kill().unwrap();
    assert_eq!(container.wait().status.code(), Some(137));
}

#[test]
fn a_deleted_cgroup_leaves_no_folder_even_with_folders_below() {
    let mut container = Container::new(&["sleep", "30"]);
    container.start(&[]);
    let cgroup = container.cgroup();
    let layout = Layout::host().unwrap();
    let processes = cgroup.processes().unwrap();
    assert_eq!(processes.len(), 1, "{processes:?}");
    let name = container.cgroup_path().trim_start_matches('/').to_owned();
    let folders: Vec<_> = layout.v1.iter().map(|one| &one.folder).chain(&layout.v2).collect();
    for folder in &folders {
        if folder.join(&name).is_dir() {
            std::fs::create_dir(folder.join(&name).join("below")).unwrap();
        }
    }
    cgroup.kill().unwrap();
    container.wait();
    cgroup.delete().unwrap();
    cgroup.delete().unwrap();
    assert!(folders.iter().all(|folder| !folder.join(&name).exists()));
    assert!(Cgroup::open(container.cgroup_path().as_ref()).unwrap().processes().unwrap().is_empty());
}
