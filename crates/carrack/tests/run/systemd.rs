//! `--systemd`: what systemd wants to find. A host with cgroup version 1 is made to look like one without, by a mount
//! namespace of the test's own.

use std::process::Command;

use carrack_testkit::{Run, Store};

use crate::kit::{IMAGE, LIMIT, busybox, empty_store};

const VERSION_2_ALONE: &str =
    "test ! -d /sys/fs/cgroup/unified || mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup; exec \"$@\"";

/// An image whose `/sbin/init` is a shell.
fn store() -> Store {
    let store = empty_store();
    store.load(&busybox().layer("/sbin/init -> /bin/busybox"), IMAGE);
    store
}

#[track_caller]
fn unified(store: &Store, arguments: &[&str]) -> Run {
    let inner = store.command();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", VERSION_2_ALONE, "sh"]).arg(inner.get_program());
    Run::of(command.args(inner.get_args()).args(arguments), LIMIT)
}

/// What a program sees of it: file systems in memory, a variable, and whether it can make a cgroup.
const LOOK: &str = "for place in /run /run/lock /tmp /var/log/journal; do stat -fc %T $place; done 2>/dev/null; \
                    echo \"container=$container\"; mkdir /sys/fs/cgroup/below 2>/dev/null && echo below";

#[test]
fn systemd_finds_memory_a_cgroup_and_its_signal() {
    let store = store();
    let run = ["run", "--rm", "--network", "none"];
    let always = unified(&store, &[&run[..], &["--systemd=always", IMAGE, "sh", "-c", LOOK]].concat());
    assert_eq!(always.line(), "tmpfs\ntmpfs\ntmpfs\ntmpfs\ncontainer=carrack\nbelow");
    let without = unified(&store, &[&run[..], &[IMAGE, "sh", "-c", LOOK]].concat());
    assert!(
        !without.stdout.contains("below") && without.stdout.contains("container=\n"),
        "{}",
        without.stdout
    );
    let create = |flags: &[&str], program: &str| {
        let words = [&["create", "--network", "none"], flags, &[IMAGE, program]].concat();
        let id = unified(&store, &words).line();
        let format = "{{.Config.SystemdMode}} {{.Config.StopSignal}}";
        store.carrack(["inspect", "--type", "container", "--format", format, &id]).line()
    };
    assert_eq!(create(&[], "/sbin/init"), "true SIGRTMIN+3");
    assert_eq!(create(&["--systemd=true"], "/usr/lib/systemd/systemd"), "true SIGRTMIN+3");
    assert_eq!(create(&["--systemd=always", "--stop-signal", "TERM"], "sh"), "true TERM");
    assert!(create(&["--systemd=false"], "/sbin/init").starts_with("false"));
    assert!(create(&["--systemd=true"], "sh").starts_with("false"));
    store.carrack(["create", "--systemd=perhaps", IMAGE]).code(125);
}

#[test]
fn systemd_is_refused_where_it_could_not_have_a_cgroup() {
    let store = store();
    let has_version_1 = std::path::Path::new("/sys/fs/cgroup/memory").exists();
    let created = store.carrack(["create", "--systemd=always", IMAGE]);
    if has_version_1 {
        let refused = created.code(125);
        assert!(refused.stderr.contains("cgroup version 2"), "{}", refused.stderr);
    } else {
        created.success();
    }
    // Without the flag it is a program like others.
    store.carrack(["create", IMAGE, "/sbin/init"]).success();
}
