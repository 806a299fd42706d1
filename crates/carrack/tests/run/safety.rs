//! Attacks on the machine by images and by containers while they are started, entered and ended.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use carrack_testkit::{Run, Store};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::kit::{self, IMAGE, LIMIT, run, store};
use crate::{UNTIL_TERM, await_ready, detached, folder};

/// How often a container is started against an attacker who races it.
const STARTS: usize = 1000;

/// A folder of the host that no container is given.
fn outside(store: &Store) -> PathBuf {
    folder(store, "outside", &[("canary", "intact")])
}

#[track_caller]
fn assert_intact(outside: &Path) {
    let names: Vec<_> = fs::read_dir(outside).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["canary"]);
    assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), "intact");
    assert!(!is_mounted_on(outside));
}

fn is_mounted_on(path: &Path) -> bool {
    fs::read_to_string("/proc/self/mountinfo").unwrap().contains(path.to_str().unwrap())
}

#[test]
fn an_image_whose_kernel_folders_are_links_reaches_nothing() {
    let store = store();
    let outside = outside(&store);
    for name in ["proc", "dev", "sys", "etc"] {
        for target in [outside.to_str().unwrap(), "/proc", "../../../../..", "/proc/self/root", "/tmp"] {
            let image =
                kit::busybox().layer(&format!("/{name} whiteout")).layer(&format!("/{name} -> {target}"));
            store.load(&image, "localhost/evil:1");
            let script = "grep -q ' /proc .* proc ' /proc/self/mountinfo && echo x >/dev/null && test ! -w /proc/sysrq-trigger";
            let flags = ["run", "--rm", "--network", "none", "--sysctl", "net.ipv4.ip_forward=1"];
            let seen = store.carrack([&flags[..], &["localhost/evil:1", "sh", "-c", script]].concat());
            let is_refused = seen.code == 125 && seen.stderr.contains("cannot");
            assert!(seen.code == 0 || is_refused, "{name} -> {target}: {seen:?}");
            assert_intact(&outside);
        }
    }
}

/// A filesystem of the attacker's in place of /proc would be believed by whoever reads or writes there.
#[test]
fn nothing_is_mounted_over_proc_by_way_of_a_link() {
    let store = store();
    let data = folder(&store, "data", &[("self/attr/exec", ""), ("sys/kernel/x", "")]);
    for target in ["/proc", "../proc", "/proc/self", "/proc/sys"] {
        let image = kit::busybox().layer(&format!("/data -> {target}"));
        store.load(&image, "localhost/evil:1");
        let flags = ["run", "--rm", "--network", "none", "-v", &format!("{}:/data", data.display())];
        let script =
            "grep -c ' /proc' /proc/self/mountinfo; test -d /proc/1 && test ! -w /proc/sys/kernel/hostname";
        let seen = store.carrack([&flags[..], &["localhost/evil:1", "sh", "-c", script]].concat());
        assert_eq!(seen.code, 125, "{target}: {seen:?}");
    }
}

/// CVE-2024-21626: a working folder that is a descriptor of the runtime's, and by it a folder of the host.
#[test]
fn a_working_folder_is_in_the_container() {
    let store = store();
    let image = kit::busybox().layer("/inside/\n/link -> inside\n/work -> /proc/self/fd/7");
    store.load(&image, "localhost/evil:1");
    let at = |folder: &str| {
        let flags = ["run", "--rm", "--network", "none", "-w", folder, "localhost/evil:1"];
        store.carrack([&flags[..], &["sh", "-c", "cat ../../../etc/shadow; /bin/pwd"]].concat())
    };
    assert_eq!(at("/link").stdout, "/inside\n", "an honest link is followed");
    let container = detached(&store, &[], UNTIL_TERM);
    await_ready(&store, &container);
    for descriptor in 3..24 {
        for form in [format!("/proc/self/fd/{descriptor}"), format!("/proc/1/fd/{descriptor}/..")] {
            let seen = at(&form);
            assert!(seen.code != 0 && seen.stdout.is_empty(), "{form}: {seen:?}");
            // A process that joins may hold the container's own root.
            let script = "cat ../../../../etc/shadow; test . -ef / || pwd";
            let seen = store.carrack(["exec", "-w", &form, &container, "sh", "-c", script]);
            assert_eq!(seen.stdout, "", "{form}: {seen:?}");
        }
    }
    assert_ne!(at("/work").code, 0);
}

#[test]
fn no_descriptor_of_the_caller_reaches_a_container() {
    let store = store();
    let container = detached(&store, &[], UNTIL_TERM);
    await_ready(&store, &container);
    let run = ["run", "--rm", "--network", "none", IMAGE];
    for arguments in [&run[..], &["exec", &container]] {
        let carrack = store.command();
        let mut command = Command::new("sh");
        command.args(["-c", "exec 7</etc 8>/dev/null; exec \"$@\"", "sh"]);
        command.arg(carrack.get_program()).args(carrack.get_args()).args(arguments);
        // The fourth is the folder that ls lists.
        let open = Run::of(command.args(["ls", "/proc/self/fd"]), LIMIT).line();
        assert_eq!(open, "0\n1\n2\n3", "{arguments:?}");
    }
}

/// CVE-2019-5736: the runtime's program is executed inside, and opened for writing from there.
#[test]
fn the_runtimes_program_cannot_be_rewritten() {
    let program = tempfile::tempdir().unwrap();
    let program = program.path().join("carrack");
    fs::copy(kit::CARRACK, &program).unwrap();
    let store = Store::new(&program);
    store.load(&kit::busybox(), IMAGE);
    let script = "echo ready; while true; do for p in /proc/[0-9]*; do (echo x >$p/exe) 2>/dev/null && echo won; done; done";
    let attacker = detached(&store, &[], script);
    await_ready(&store, &attacker);
    for _ in 0..50 {
        store.carrack(["exec", &attacker, "/proc/self/exe", "version"]);
        run(&store, &[], "(echo x >/proc/self/exe) 2>/dev/null && echo won; true").success();
    }
    assert!(fs::read(&program).unwrap() == fs::read(kit::CARRACK).unwrap(), "it was changed");
    assert!(!store.carrack(["logs", &attacker]).success().stdout.contains("won"));
    let seen = store.carrack(["run", "--rm", "--network", "none", IMAGE, "/proc/self/exe", "version"]);
    assert!(seen.code == 0 && seen.stdout.contains("Version:"), "it is what the attack needs: {seen:?}");
}

/// Exchanges two names of a folder for as long as `work` takes.
fn while_exchanging<T>(first: &Path, second: &Path, work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                renameat_with(CWD, first, CWD, second, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let result = work();
        is_over.store(true, Ordering::Relaxed);
        result
    })
}

/// CVE-2025-31133, -52565, -52881 and their older kin: what a mount goes to is exchanged between its check and its
/// use, by somebody who has the same volume.
#[test]
fn a_volume_whose_owner_exchanges_links_while_containers_start() {
    let store = store();
    let outside = outside(&store);
    let volume = folder(&store, "volume", &[("place/below/x", "")]);
    let links = ["/proc", "/proc/self/attr", "../../../../../../../..", outside.to_str().unwrap(), "/dev"];
    let payload = folder(&store, "payload", &[("core_pattern", "|/evil")]);
    let flags = [
        "-v".to_owned(),
        format!("{}:/volume", volume.display()),
        "-v".to_owned(),
        format!("{}:/volume/place/below", payload.display()),
        "--tmpfs".to_owned(),
        "/volume/place/memory".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    // Whatever went wrong would be seen here: the kernel's files, masked and read-only.
    let script = "test -d /proc/1 && test ! -s /proc/keys && ! touch /proc/sys/kernel/domainname 2>/dev/null && \
                  ! (echo x >/proc/sysrq-trigger) 2>/dev/null && echo x >/dev/null && echo safe";
    let mut started = 0;
    for link in links {
        let swap = volume.join("swap");
        let _ = fs::remove_file(&swap);
        symlink(link, &swap).unwrap();
        while_exchanging(&volume.join("place"), &swap, || {
            for _ in 0..STARTS / links.len() {
                let seen = run(&store, &flags, script);
                assert!(seen.code == 125 || seen.stdout == "safe\n", "{link}: {seen:?}");
                started += usize::from(seen.code == 0);
            }
        });
        // The link may have ended up under either name.
        if volume.join("place").is_symlink() {
            renameat_with(CWD, volume.join("place"), CWD, &swap, RenameFlags::EXCHANGE).unwrap();
        }
        assert_intact(&outside);
    }
    assert!(started > STARTS / 20, "the race was not run: {started} containers started");
    assert!(!is_mounted_on(&volume));
}

#[test]
fn a_fork_bomb_is_removed_at_once() {
    let store = store();
    let bomb = "bomb() { bomb | bomb & }; trap '' TERM; echo ready; bomb; sleep 1000";
    let container = detached(&store, &["--pids-limit", "100"], bomb);
    await_ready(&store, &container);
    store.carrack(["rm", "--force", &container]).success();
    crate::assert_no_container_is_left(&store, &container);
}

#[test]
fn a_process_that_joins_has_no_capability_to_inherit() {
    let store = store();
    let container = detached(&store, &["--cap-add", "SYS_TIME"], UNTIL_TERM);
    await_ready(&store, &container);
    for user in ["0", "1001"] {
        let sets = ["exec", "-u", user, &container, "grep", "-E", "Cap(Inh|Amb)", "/proc/self/status"];
        let seen = store.carrack(sets).line();
        assert_eq!(seen.matches("0000000000000000").count(), 2, "{seen}");
    }
}

#[test]
fn who_may_trace_others_sees_nothing_of_the_host_in_a_process_that_joins() {
    let store = store();
    let mark = outside(&store);
    let look = format!(
        "echo ready; while :; do for p in /proc/[0-9]*; do test -e $p/root{0} && echo root >> /found; \
         for f in $p/fd/*; do test -d $f/ && echo $f >> /found; done; done; done",
        mark.display()
    );
    let container = detached(&store, &["--cap-add", "SYS_PTRACE"], &look);
    await_ready(&store, &container);
    for _ in 0..40 {
        store.carrack(["exec", &container, "true"]).success();
    }
    assert_eq!(
        store.carrack(["exec", &container, "sh", "-c", "cat /found 2>&1"]).code(1).stdout,
        "cat: can't open '/found': No such file or directory\n"
    );
    store.carrack(["rm", "--force", &container]).success();
}
