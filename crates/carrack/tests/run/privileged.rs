//! `--privileged`, and what `inspect` says is enforced.

use std::fs;

use crate::kit::{IMAGE, run, store};
use crate::{UNTIL_TERM, detached, inspect};

#[test]
fn a_privileged_container_may_do_what_the_host_may() {
    let store = store();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let bounding = own.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    let script = "grep CapEff /proc/self/status; grep Seccomp: /proc/self/status; \
                  mount -t tmpfs none /tmp && touch /tmp/x && umount /tmp && echo mounted; \
                  test -w /proc/sys/kernel/hostname && echo hostname >/proc/sys/kernel/hostname && echo written; \
                  grep -c ' /proc/kcore ' /proc/self/mountinfo; \
                  grep ' /sys ' /proc/self/mountinfo | grep -c ' rw,'";
    let seen = run(&store, &["--privileged"], script).success().stdout;
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(
        lines,
        [&format!("CapEff:\t{bounding}"), "Seccomp:\t0", "mounted", "written", "0", "1"],
        "{seen}"
    );
    let devices = run(&store, &["--privileged"], "ls /dev").line();
    for device in ["kmsg", "null"] {
        assert!(devices.lines().any(|name| name == device), "{device} of {devices}");
    }
    assert!(!run(&store, &[], "ls /dev").line().contains("kmsg"));
    // Namespaces stay its own.
    assert_eq!(run(&store, &["--privileged"], "echo $$").line(), "1");
    assert_eq!(run(&store, &["--privileged=false"], "grep Seccomp: /proc/self/status").line(), "Seccomp:\t2");
    let less = run(&store, &["--privileged", "--cap-drop", "SYS_ADMIN"], "mount -t tmpfs none /tmp").code(1);
    assert!(less.stderr.contains("mount"), "{}", less.stderr);
}

#[test]
fn a_device_of_the_host_can_be_read() {
    let store = store();
    run(&store, &["--privileged"], "mknod /x c 1 11 && dd if=/x of=/dev/null bs=1 count=0").success();
    run(&store, &[], "mknod /x c 1 11").code(1);
}

#[test]
fn inspect_shows_what_is_enforced() {
    let store = store();
    detached(&store, &["--name", "plain", "--read-only", "--security-opt", "no-new-privileges"], UNTIL_TERM);
    assert_eq!(inspect(&store, "plain", "{{len .EffectiveCaps}} {{len .BoundingCaps}}"), "11 11");
    let security = "{{.Security.NoNewPrivileges}} {{.Security.ReadonlyRootfs}} {{.Security.UserNamespace}}";
    assert_eq!(inspect(&store, "plain", security), "true true false");
    assert!(inspect(&store, "plain", "{{.Security.Seccomp}}").contains("ERRNO"));
    assert!(inspect(&store, "plain", "{{json .HostConfig.MaskedPaths}}").contains("/proc/kcore"));
    assert!(inspect(&store, "plain", "{{json .HostConfig.ReadonlyPaths}}").contains("/proc/sys"));
    assert_eq!(inspect(&store, "plain", "{{.HostConfig.Privileged}} {{.AppArmorProfile}}"), "false");

    detached(&store, &["--name", "open", "--privileged"], UNTIL_TERM);
    assert_eq!(
        inspect(&store, "open", "{{.HostConfig.Privileged}} {{.Security.Seccomp}}"),
        "true unconfined"
    );
    assert_eq!(inspect(&store, "open", "{{json .HostConfig.MaskedPaths}}"), "[]");
    assert!(inspect(&store, "open", "{{json .EffectiveCaps}}").contains("CAP_SYS_ADMIN"));

    store.carrack(["create", "--name", "new", IMAGE]).success();
    assert_eq!(inspect(&store, "new", "{{json .Security}} {{json .HostConfig.MaskedPaths}}"), "null null");
}
