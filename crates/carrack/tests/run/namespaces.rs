//! Namespaces that are shared: users, processes, memory, names, networks.

use std::fs;
use std::os::unix::fs::MetadataExt;

use carrack_testkit::Store;

use crate::kit::{IMAGE, run, store};
use crate::{await_ready, detached, folder, inspect};

/// First user of a container on the host.
#[track_caller]
fn first_user(store: &Store, id: &str) -> u32 {
    let pid = inspect(store, id, "{{.State.Pid}}");
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    map.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_user_namespace_hides_whose_files_they_are() {
    let store = store();
    let shared = folder(&store, "shared", &[("x", "")]);
    fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let volume = format!("{}:/data", shared.display());
    let script = "id -u; stat -c %u:%g /bin /etc/passwd; echo x >/etc/new; stat -c %u /etc/new; touch /data/file; \
                  cat /proc/self/uid_map; echo y >/dev/null; mount -t tmpfs x /mnt 2>/dev/null || echo refused";
    let seen =
        run(&store, &["--uidmap", "0:500000:65536", "--gidmap", "0:600000:65536", "-v", &volume], script);
    let words = seen.line().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words, "0 0:0 0:0 0 0 500000 65536 refused");
    let file = fs::metadata(shared.join("file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (500_000, 600_000));
    run(&store, &["--userns", "nomap"], "true").code(125);
    run(&store, &["--uidmap", "0:1"], "true");
    run(&store, &["--uidmap", "x"], "true").code(125);
}

#[test]
fn two_containers_have_no_user_in_common() {
    let store = store();
    let flags = ["--userns", "auto:size=4096"];
    let script = "touch /mine; echo ready; sleep 1000";
    let (one, two) = (detached(&store, &flags, script), detached(&store, &flags, script));
    await_ready(&store, &one);
    await_ready(&store, &two);
    let (first, second) = (first_user(&store, &one), first_user(&store, &two));
    assert!(first.abs_diff(second) >= 4096, "{first} {second}");
    assert!(first > 100_000 && second > 100_000);
    assert_eq!(store.carrack(["exec", &one, "stat", "-c", "%u", "/mine"]).line(), "0");
    assert_eq!(inspect(&store, &one, "{{.HostConfig.UsernsMode}}"), "auto:size=4096");
    store.carrack(["rm", "--force", &one]).success();
    let three = detached(&store, &flags, script);
    assert_eq!(first_user(&store, &three), first, "what is free again is taken again");
}

#[test]
fn processes_memory_names_and_network_of_another_container() {
    let store = store();
    let other =
        detached(&store, &["-h", "harbour"], "echo from other >/dev/shm/x; echo ready; sleep 1000; true");
    await_ready(&store, &other);
    let mode = format!("container:{other}");
    let flags = ["--pid", &mode, "--ipc", &mode, "--uts", &mode];
    let script =
        "head -c 2 /proc/1/cmdline; echo; cat /dev/shm/x; hostname; echo $HOSTNAME; touch /dev/shm/back";
    assert_eq!(run(&store, &flags, script).line(), "sh\nfrom other\nharbour\nharbour");
    assert_eq!(store.carrack(["exec", &other, "ls", "/dev/shm"]).line(), "back\nx");
    let network = ["run", "--rm", "--network", &mode, IMAGE, "readlink", "/proc/self/ns/net"];
    let pid = inspect(&store, &other, "{{.State.Pid}}");
    let expected = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!(store.carrack(network).line(), expected.to_string_lossy());
    store.carrack(["kill", &other]).success();
    store.carrack(["wait", &other]);
    let refused = run(&store, &["--pid", &mode], "true").code(125);
    assert!(refused.stderr.contains("it is not running"), "{}", refused.stderr);
}

#[test]
fn memory_that_is_private_is_not_shared() {
    let store = store();
    let other = detached(&store, &["--ipc", "private"], "echo ready; sleep 1000");
    await_ready(&store, &other);
    let refused = run(&store, &["--ipc", &format!("container:{other}")], "true").code(125);
    assert!(refused.stderr.contains("--ipc shareable"), "{}", refused.stderr);
    assert_eq!(inspect(&store, &other, "{{.HostConfig.IpcMode}}"), "private");
    run(&store, &["--ipc", "none"], "test ! -e /dev/shm").success();
}

#[test]
fn namespaces_of_the_host() {
    let store = store();
    for (flag, name) in [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup")] {
        let expected = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let link = format!("readlink /proc/self/ns/{name}");
        assert_eq!(run(&store, &[flag, "host"], &link).line(), expected.to_string_lossy(), "{flag}");
        assert_ne!(run(&store, &[], &link).line(), expected.to_string_lossy(), "{flag}");
        run(&store, &[flag, "nonsense"], "true").code(125);
    }
    let path = format!("ns:/proc/{}/ns/uts", std::process::id());
    let own = fs::read_link("/proc/self/ns/uts").unwrap();
    assert_eq!(run(&store, &["--uts", &path], "readlink /proc/self/ns/uts").line(), own.to_string_lossy());
}

#[test]
fn paths_of_the_kernel_are_masked_and_unmasked() {
    let store = store();
    let option = |option: &str, script: &str| run(&store, &["--security-opt", option], script);
    option("mask=/etc/passwd", "test ! -s /etc/passwd").success();
    let masked = "grep -c ' /proc/keys ' /proc/self/mountinfo";
    option("unmask=/proc/acpi:/proc/ke*", masked).code(1);
    assert_eq!(run(&store, &[], masked).line(), "1");
    option("systempaths=unconfined", "grep -c ' /proc/sys ' /proc/self/mountinfo").code(1);
    option("proc-opts=hidepid=2", "grep -q 'hidepid=' /proc/self/mountinfo").success();
    option("mask=relative", "true").code(125);
    option("label=disable", "true").success();
    option("label=type:x_t", "true").success();
    option("label=disable-everything", "true").code(125);
    option("nonsense=1", "true").code(125);
}

#[test]
fn the_oom_score_is_that_of_the_flag() {
    let store = store();
    assert_eq!(run(&store, &["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj").line(), "500");
    run(&store, &["--oom-score-adj", "-500"], "true").success();
    run(&store, &["--oom-score-adj", "1001"], "true").code(125);
}
