//! Cgroups that systemd makes: a real systemd is process 1 of a host in namespaces, and the real binary works there.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use carrack_testkit::{Run, Store};

#[path = "it/kit.rs"]
#[allow(dead_code, reason = "each suite uses its own part of the kit")]
mod kit;

use kit::{CARRACK, IMAGE, LIMIT, store};

const BOOT: &str = include_str!("systemd_driver/boot.sh");
/// What every script begins with: `C` is carrack with its store, `gone` prints what is left of scopes and cgroups.
const PRELUDE: &str = r#"
C="$FOLDER/carrack --root $FOLDER/root --runroot $FOLDER/run --cgroup-manager systemd"
say() { echo "$1=$2"; }
show() { systemctl show -p "$2" --value "$1"; }
gone() {
    find /sys/fs/cgroup -depth -type d -name '*.scope' | grep -v init.scope || true
    systemctl list-units --all --plain --no-legend 'carrack-*' 'oci-*'
}
"#;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The cgroups that the host is in; they go with it.
struct Cgroups(String);

impl Cgroups {
    fn folders(&self) -> Vec<PathBuf> {
        let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
        roots.extend(fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path()));
        roots.into_iter().map(|root| root.join(&self.0)).filter(|folder| folder.is_dir()).collect()
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(5);
        while !self.folders().is_empty() && Instant::now() < until {
            self.folders().iter().for_each(|folder| remove(folder));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

/// Runs a script on a host with systemd; what it said, or nothing where this machine cannot be one.
fn inside(store: &Store, tree: &str, script: &str) -> Option<BTreeMap<String, String>> {
    let has_hybrid = Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists();
    let lacks = [
        ("no systemd", !Path::new("/lib/systemd/systemd").exists()),
        ("no v1 hierarchies", tree == "hybrid" && !has_hybrid),
    ];
    if let Some((what, _)) = lacks.iter().find(|(_, lacks)| *lacks) {
        let mut stderr = std::io::stderr();
        writeln!(stderr, "skipped: this machine has {what}").unwrap();
        return None;
    }
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let cgroups = Cgroups(format!("carrack-systemd-test-{}-{number}", std::process::id()));
    fs::copy(CARRACK, store.path().join("carrack")).unwrap();
    fs::write(store.path().join("boot.sh"), BOOT).unwrap();
    fs::write(store.path().join("inside.sh"), format!("{PRELUDE}{script}")).unwrap();
    let mut command = Command::new("sh");
    command.arg(store.path().join("boot.sh"));
    command.env("FOLDER", store.path()).env("CGROUP", &cgroups.0).env("TREE", tree);
    let run = Run::of(&mut command, LIMIT);
    let read = |name: &str| fs::read_to_string(store.path().join(name)).unwrap_or_default();
    let (output, messages) = (read("output"), read("messages"));
    assert!(run.code == 0, "{}\n{output}\n{messages}\n{}", run.code, run.stderr);
    let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    Some(output.lines().filter_map(pair).collect())
}

#[track_caller]
fn check(said: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(said.get(*key).map(String::as_str), Some(*value), "{key} of {said:#?}");
    }
}

#[test]
fn a_container_is_a_scope_with_its_limits() {
    let script = format!(
        r#"
        id=$($C run -d --name one --network none --memory 64m --pids-limit 1 --cpus 1.5 {IMAGE} sleep 1000)
        unit=carrack-$id.scope
        say active "$(systemctl is-active $unit)"
        for name in Slice Delegate TasksMax MemoryLimit CPUQuotaPerSecUSec DevicePolicy; do say $name "$(show $unit $name)"; done
        pids=/sys/fs/cgroup/pids/machine.slice/$unit
        say pids "$(cat $pids/pids.max) $(wc -l <$pids/cgroup.procs)"
        say memory "$(cat /sys/fs/cgroup/memory/machine.slice/$unit/memory.limit_in_bytes)"
        say tracked "$(wc -l </sys/fs/cgroup/unified/machine.slice/$unit/cgroup.procs)"
        $C update --pids-limit 30 --memory 96m --memory-swap 192m one
        say updated "$(show $unit TasksMax) $(cat $pids/pids.max) $(show $unit MemoryLimit)"
        say exec "$($C exec one cat /proc/self/cgroup | grep -c ':/$')"
        systemctl daemon-reload
        say reloaded "$(cat $pids/pids.max) $(grep -c '^a' /sys/fs/cgroup/devices/machine.slice/$unit/devices.list || true)"
        $C pause one
        say paused "$($C inspect --format '{{{{.State.Status}}}}' one)"
        $C unpause one
        $C stop --time 0 one
        say stopped "$(gone)"
        $C start one
        say again "$(systemctl is-active $unit)"
        $C rm --force one
        say removed "$(gone)"
        say driver "$($C info --format '{{{{.CgroupDriver}}}}')"
        "#
    );
    let store = store();
    let Some(said) = inside(&store, "hybrid", &script) else { return };
    check(
        &said,
        &[
            ("active", "active"),
            ("Slice", "machine.slice"),
            ("Delegate", "yes"),
            ("TasksMax", "1"),
            ("MemoryLimit", "67108864"),
            ("CPUQuotaPerSecUSec", "1.500000s"),
            ("DevicePolicy", "strict"),
            ("pids", "1 1"),
            ("memory", "67108864"),
            ("tracked", "1"),
            ("updated", "30 30 100663296"),
            ("reloaded", "30 0"),
            ("paused", "paused"),
            ("stopped", ""),
            ("again", "active"),
            ("removed", ""),
            ("driver", "systemd"),
        ],
    );
    assert!(said["exec"].parse::<u32>().unwrap() > 3, "in every hierarchy of its own: {said:#?}");
}

#[test]
fn a_scope_goes_with_its_container_however_that_ends() {
    let script = format!(
        r#"
        $C run --rm --network none {IMAGE} true
        say ended "$(gone)"
        $C run --rm --network none {IMAGE} no-such-program && exit 1
        say failed "$(gone)"
        id=$($C run -d --name two --network none --cgroup-parent a-b.slice {IMAGE} sleep 1000)
        say path "$(ls -d /sys/fs/cgroup/pids/a.slice/a-b.slice/carrack-$id.scope | wc -l)"
        kill -9 $($C inspect --format '{{{{.State.Pid}}}}' two | xargs -I % sh -c 'cut -d" " -f4 /proc/%/stat')
        for turn in $(seq 100); do $C ps --all --format '{{{{.State}}}}' | grep -q exited && break; sleep 0.05; done
        say lost "$($C ps --all --format '{{{{.State}}}}')"
        $C rm --force two
        say removed "$(gone)"
        $C create --cgroup-parent /x {IMAGE} true 2>/dev/null && exit 1
        say without "$($FOLDER/carrack --root $FOLDER/root --runroot $FOLDER/run create --cgroup-parent a.slice {IMAGE} true 2>&1 | grep -c cgroup-manager)"
        "#
    );
    let store = store();
    for tree in ["hybrid", "unified"] {
        let Some(said) =
            inside(&store, tree, &script.replace("/pids/", if tree == "hybrid" { "/pids/" } else { "/" }))
        else {
            continue;
        };
        check(
            &said,
            &[
                ("ended", ""),
                ("failed", ""),
                ("path", "1"),
                ("lost", "exited"),
                ("removed", ""),
                ("without", "1"),
            ],
        );
    }
}

#[test]
fn the_oci_runtime_takes_a_path_in_the_form_of_systemd() {
    let script = r#"
        R="$FOLDER/carrack runtime --root $FOLDER/state --systemd-cgroup"
        mkdir -p $FOLDER/bundle/rootfs/bin
        cd $FOLDER/bundle
        cp /bin/busybox rootfs/bin/sh
        for folder in proc dev sys; do mkdir rootfs/$folder; done
        $R spec
        edit() { sed -i "$1" config.json; }
        edit 's/"terminal": true/"terminal": false/'
        sed -i 's|"linux": {|"linux": { "cgroupsPath": "user-7.slice:oci:one",|' config.json
        $R create one </dev/null >/dev/null
        say active "$(systemctl is-active oci-one.scope)"
        say slice "$(show oci-one.scope Slice)"
        say path "$(ls -d /sys/fs/cgroup/pids/user.slice/user-7.slice/oci-one.scope | wc -l)"
        $R update --pids-limit 17 one
        say updated "$(show oci-one.scope TasksMax)"
        $R delete --force one
        say deleted "$(gone)"
        sed -i 's|"user-7.slice:oci:one"|"/plain/path"|' config.json
        $R create one </dev/null 2>&1 | grep -c SLICE:PREFIX:NAME | xargs echo refused=
        say left "$($R list --quiet)$(gone)"
        "#;
    let store = store();
    let Some(said) = inside(&store, "hybrid", script) else { return };
    check(
        &said,
        &[
            ("active", "active"),
            ("slice", "user-7.slice"),
            ("path", "1"),
            ("updated", "17"),
            ("deleted", ""),
            ("refused", " 1"),
            ("left", ""),
        ],
    );
}
