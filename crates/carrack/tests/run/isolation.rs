//! What a container cannot see or do.

use std::fs;
use std::path::{Path, PathBuf};

use crate::kit::{IMAGE, digest, files_below, id, run, snapshot_folders, store};
use crate::{UNTIL_TERM, await_ready, detached};

#[test]
fn every_namespace_is_its_own() {
    let store = store();
    for name in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let link = format!("/proc/self/ns/{name}");
        let inside = run(&store, &[], &format!("readlink {link}")).line();
        assert!(inside.starts_with(name), "{inside}");
        assert_ne!(inside, fs::read_link(&link).unwrap().display().to_string());
    }
}

#[test]
fn no_process_of_the_host_is_seen() {
    let store = store();
    let script =
        "echo $$; ls /proc | grep -c '^[0-9]'; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'c[a]rrack'";
    let seen = run(&store, &[], script).code(1).stdout;
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!((lines[0], lines[2]), ("1", "0"));
    assert!(lines[1].parse::<u32>().unwrap() <= 3, "{seen}");
}

#[test]
fn only_the_mounts_of_a_container_are_seen() {
    let store = store();
    let mounts = run(&store, &[], "cat /proc/self/mountinfo").success().stdout;
    let known = ["/proc", "/sys", "/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
    let mut roots = 0;
    for line in mounts.lines() {
        let point = line.split(' ').nth(4).unwrap();
        if point == "/" {
            assert!(line.contains(" - overlay "), "{line}");
            roots += 1;
        } else {
            assert!(known.iter().any(|known| Path::new(point).starts_with(known)), "{line}");
        }
        assert!(!line.contains("shared:") && !line.contains("master:"), "{line}");
    }
    assert_eq!(roots, 1, "{mounts}");
}

#[test]
fn nothing_is_mounted_on_the_host() {
    let store = store();
    let id = detached(&store, &["--tmpfs", "/scratch"], UNTIL_TERM);
    await_ready(&store, &id);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let folder = store.path().display().to_string();
    let ours: Vec<&str> =
        mounts.lines().filter(|line| line.contains(&folder) || line.contains(&id)).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[test]
fn privileged_calls_are_refused() {
    let store = store();
    let probes = [
        "mount -t tmpfs x /tmp",
        "mount -o remount,rw /proc/sys",
        "busybox umount /proc/kcore",
        "hostname x",
        "busybox unshare -m true",
        "busybox unshare -n true",
        "busybox unshare -U true",
        "busybox nsenter -t 1 -n true",
        "busybox mknod /tmp/disk b 8 0",
        "busybox dmesg",
        "busybox renice -n -5 1",
        "busybox pivot_root / /tmp",
        "ip link set lo down",
    ];
    let script: String =
        probes.iter().map(|probe| format!("{probe} >/dev/null && echo 'was allowed: {probe}'\n")).collect();
    let seen = run(&store, &[], &format!("{script} true")).success();
    assert_eq!(seen.stdout, "", "{}", seen.stderr);
    let refused = |line: &&str| line.contains("not permitted") || line.contains("ermission denied");
    assert_eq!(seen.stderr.lines().filter(refused).count(), probes.len(), "{}", seen.stderr);
}

#[test]
fn a_granted_capability_ends_at_the_container() {
    let store = store();
    let host_name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let script = "mount -t tmpfs x /tmp && hostname not-of-the-host && hostname";
    assert_eq!(run(&store, &["--cap-add", "SYS_ADMIN"], script).line(), "not-of-the-host");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), host_name);
}

#[test]
fn the_kernels_files_are_read_only_or_masked() {
    let store = store();
    let files = [
        "/proc/sys/kernel/domainname",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/x",
        "/sys/fs/cgroup/x",
    ];
    // Not every kernel has all of them.
    for file in files.iter().filter(|file| Path::new(file).exists() || file.starts_with("/sys")) {
        let refused = run(&store, &[], &format!(": >>{file}"));
        assert_ne!(refused.code, 0, "{file}");
        assert!(refused.stderr.contains("Read-only file system"), "{file}: {}", refused.stderr);
    }
    for file in
        ["/proc/kcore", "/proc/keys", "/proc/timer_list"].iter().filter(|file| Path::new(file).exists())
    {
        assert_eq!(run(&store, &[], &format!("wc -c <{file}")).line(), "0", "{file}");
    }
    assert_eq!(run(&store, &[], "ls -A /sys/firmware").line(), "");
    let devices = run(&store, &[], "find /dev -type b; find /dev -name mem -o -name kmsg").line();
    assert_eq!(devices, "");
}

#[test]
fn what_one_container_writes_no_other_sees() {
    let store = store();
    let files = || -> Vec<PathBuf> {
        let folders = ["committed", "layers", "merged"].map(|name| snapshot_folders(&store, name));
        folders.iter().flatten().flat_map(|folder| files_below(folder)).collect()
    };
    let passwd = || {
        let mounted = PathBuf::from(store.carrack(["image", "mount", IMAGE]).line());
        let text = fs::read(mounted.join("etc/passwd")).unwrap();
        store.carrack(["image", "unmount", IMAGE]).success();
        text
    };
    let before = (digest(&store, IMAGE), id(&store, IMAGE), files(), passwd());
    let script = "echo changed >/etc/passwd; rm /bin/vi; touch /marker; echo ready; sleep 1000";
    let first = detached(&store, &[], script);
    await_ready(&store, &first);
    let script = "head -n 1 /etc/passwd; readlink /bin/vi; test ! -e /marker";
    assert_eq!(run(&store, &[], script).line(), "root:x:0:0:root:/root:/bin/sh\nbusybox");
    store.carrack(["rm", "--force", &first]).success();
    assert_eq!((digest(&store, IMAGE), id(&store, IMAGE), files(), passwd()), before);
}
