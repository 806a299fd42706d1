//! Devices of the host: which nodes a container has, and which it can open.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use carrack_testkit::{Run, Store};
use rustix::process::{Pid, Signal, kill_process};

use crate::crash::kill_monitor;
use crate::kit::{IMAGE, LIMIT, host, run, store};
use crate::{assert_no_container_is_left, eventually, folder, inspect, processes_with};

/// A device that containers do not have: whether it can be opened does not depend on there being a driver.
const MAJOR_MINOR: [&str; 2] = ["10", "229"];

/// A node of that device in a folder of the test.
fn node(store: &Store) -> String {
    let folder = folder(store, "nodes", &[("note", "")]);
    let path = folder.join("node").display().to_string();
    host("mknod", ["-m", "666", &path, "c", MAJOR_MINOR[0], MAJOR_MINOR[1]]).success();
    path
}

/// Tries to open `/dev/there` for reading and for writing.
const TRY: &str = "(: < /dev/there) 2>&1; echo '|'; (: > /dev/there) 2>&1; true";

/// Which of the two were refused by the rules of the cgroup.
#[track_caller]
fn refused(ran: Run) -> (bool, bool) {
    let output = ran.success().stdout;
    let (read, write) = output.split_once('|').expect(&output);
    let is_refused = |text: &str| text.contains("not permitted");
    assert!(!output.contains("No such file"), "{output}");
    (is_refused(read), is_refused(write))
}

#[test]
fn a_device_can_be_opened_as_far_as_it_was_given() {
    let store = store();
    let node = node(&store);
    let given = |access: &str| run(&store, &["--device", &format!("{node}:/dev/there{access}")], TRY);
    assert_eq!(refused(given("")), (false, false));
    assert_eq!(refused(given(":r")), (false, true));
    // The node alone is not enough.
    let make = format!("busybox mknod /dev/there c {} {}; {TRY}", MAJOR_MINOR[0], MAJOR_MINOR[1]);
    assert_eq!(refused(run(&store, &["--cap-add", "MKNOD"], &make)), (true, true));
    let rule = format!("c {}:* rw", MAJOR_MINOR[0]);
    let flags = ["--cap-add", "MKNOD", "--device-cgroup-rule", &rule];
    assert_eq!(refused(run(&store, &flags, &make)), (false, false));
}

#[test]
fn a_folder_of_devices_is_given_whole_and_inspect_shows_all() {
    let store = store();
    let node = node(&store);
    let nodes = Path::new(&node).parent().unwrap().display().to_string();
    let listed = run(&store, &["--device", &format!("{nodes}:/dev/all")], "ls -l /dev/all/*").line();
    assert!(listed.starts_with("crw-rw-rw-") && listed.contains("10, 229"), "{listed}");
    let mapping = format!("{node}:/dev/there:r");
    let rule = "c 10:* r";
    let create = [
        "create",
        "--name",
        "one",
        "--network",
        "none",
        "--device",
        &mapping,
        "--device-cgroup-rule",
        rule,
        "--gpus",
        "all",
        "--device",
        "vendor.com/device=0",
        IMAGE,
    ];
    store.carrack(create).success();
    let format =
        "{{range .HostConfig.Devices}}{{.PathOnHost}} {{.PathInContainer}} {{.CgroupPermissions}}{{end}}";
    assert_eq!(inspect(&store, "one", format), format!("{node} /dev/there r"));
    assert_eq!(inspect(&store, "one", "{{.HostConfig.DeviceCgroupRules}}"), format!("[{rule}]"));
    let format = "{{range .HostConfig.DeviceRequests}}{{.Driver}} {{.Count}} {{.DeviceIDs}};{{end}}";
    assert!(inspect(&store, "one", format).contains("cdi 0 [vendor.com/device=0]"));
    for wrong in [
        &["--device", "/dev/absent"][..],
        &["--device", "/etc/passwd"],
        &["--device", "relative"],
        &["--device", "/dev/null:/dev/x:q"],
        &["--device-cgroup-rule", "c 10"],
        &["--gpus", "some"],
    ] {
        assert_eq!(run(&store, wrong, "true").code, 125, "{wrong:?}");
    }
}

#[test]
fn a_cdi_file_says_what_a_device_needs() {
    let store = store();
    let node = node(&store);
    let file = format!(
        "cdiVersion: 0.8.0
kind: nvidia.com/gpu
devices:
  - name: all
    containerEdits:
      deviceNodes: [{{path: /dev/there, hostPath: {node}, permissions: r}}]
containerEdits:
  env: [GPU=yes]
  mounts: [{{hostPath: /etc/passwd, containerPath: /vendor/passwd}}]
"
    );
    let settings = settings_with_cdi(&store, "gpu.yaml", &file);
    let with = |flags: &[&str], script: &str| run_with(&store, &settings, flags, script);
    for flags in [&["--gpus", "all"][..], &["--device", "nvidia.com/gpu=all"]] {
        let seen =
            with(flags, "echo $GPU; head -c 4 /vendor/passwd; touch /vendor/passwd 2>/dev/null || echo ro");
        assert_eq!(seen.line(), "yes\nrootro", "{flags:?}");
        assert_eq!(refused(with(flags, TRY)), (false, true), "{flags:?}");
    }
    let absent = with(&["--device", "nvidia.com/gpu=9"], "true").code(125);
    assert!(absent.stderr.contains("nvidia.com/gpu=9"), "{}", absent.stderr);
}

/// A settings file after which CDI files are sought in a folder with this one.
fn settings_with_cdi(store: &Store, name: &str, content: &str) -> PathBuf {
    let files = folder(store, "cdi", &[(name, content)]);
    let settings = format!("[containers]\ncdi_spec_dirs = [{:?}]\n", files.display().to_string());
    folder(store, "settings", &[("carrack.toml", &settings)]).join("carrack.toml")
}

#[track_caller]
fn run_with(store: &Store, settings: &Path, flags: &[&str], script: &str) -> Run {
    let mut command = store.command();
    command.arg("--settings").arg(settings).args(["run", "--rm", "--network", "none"]);
    Run::of(command.args(flags).args([IMAGE, "sh", "-c", script]), LIMIT)
}

/// A hook that does what those of vendors do: it learns from its input where the bundle is, from the bundle's
/// `config.json` where the root is, and changes files and mounts there. `hooks.log` gets its name and what it was told.
const HOOK: &str = r#"#!/bin/sh
set -e
state=$(cat)
bundle=$(echo "$state" | sed -n 's/.*"bundle":"\([^"]*\)".*/\1/p')
root=$(sed -n 's/.*"root":{[^}]*"path":"\([^"]*\)".*/\1/p' "$bundle/config.json")
echo "$1 $VENDOR $state" >> "$LOG"
case $1 in
createContainer)
    test -e "$root/bin/busybox"
    grep -q ' / ' "$root/proc/self/mountinfo"
    mkdir -p "$root/etc" "$root/vendor"
    echo "cache of $bundle" > "$root/etc/ld.so.cache"
    mount -t tmpfs none "$root/vendor"
    echo mounted > "$root/vendor/note" ;;
createRuntime) test -z "$(ls "$root")" ;;
fail) echo "no driver" >&2; exit 3 ;;
esac
"#;

#[test]
fn hooks_of_a_cdi_file_find_the_state_and_the_root() {
    let store = store();
    let script = folder(&store, "vendor", &[("hook", HOOK)]).join("hook").display().to_string();
    host("chmod", ["755", &script]).success();
    let log = store.path().join("hooks.log");
    let env = format!("[VENDOR=yes, PATH=/usr/sbin:/usr/bin:/sbin:/bin, LOG={}]", log.display());
    let hook = |name: &str| format!("{{hookName: {name}, path: {script}, args: [hook, {name}], env: {env}}}");
    let outside = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"].map(hook);
    let inside = "{hookName: startContainer, path: /bin/busybox, args: [sh, -c, 'cat > /started']}";
    let file = format!(
        "cdiVersion: 0.8.0
kind: nvidia.com/gpu
devices:
  - name: all
    containerEdits: {{hooks: [{}, {inside}]}}
  - name: broken
    containerEdits: {{hooks: [{{hookName: createContainer, path: {script}, args: [hook, fail], env: {env}}}]}}
",
        outside.join(", ")
    );
    let settings = settings_with_cdi(&store, "gpu.yaml", &file);
    let seen = run_with(
        &store,
        &settings,
        &["--gpus", "all"],
        "cat /etc/ld.so.cache /vendor/note /started; echo; grep -c rootfs /proc/self/mountinfo; echo end",
    );
    let output = seen.success().stdout;
    let bundle = store.path().join("run/containers").display().to_string();
    assert!(output.starts_with(&format!("cache of {bundle}/")) && output.contains("\nmounted\n"), "{output}");
    assert!(output.contains(r#""status":"created""#) && output.ends_with("\n0\nend\n"), "{output}");
    let log = fs::read_to_string(log).unwrap();
    let told: Vec<_> = log.lines().map(|line| line.split_once(" yes ").expect(line)).collect();
    let names: Vec<_> = told.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]);
    let statuses = ["creating", "creating", "creating", "running", "stopped"];
    for ((name, state), status) in told.iter().zip(statuses) {
        assert!(
            state.contains(&format!(r#""status":"{status}""#)) && state.contains(&bundle),
            "{name}: {state}"
        );
        let pid = if *name == "createContainer" { r#""pid":1,"# } else { r#""pid":"# };
        assert_eq!(state.contains(pid), *name != "poststop", "{name}: {state}");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&bundle), "{mounts}");

    let failed = run_with(&store, &settings, &["--device", "nvidia.com/gpu=broken"], "true").code(125);
    assert!(
        failed.stderr.contains("createContainer") && failed.stderr.contains("no driver"),
        "{}",
        failed.stderr
    );
    // The root of another user namespace cannot go through the folder in which hooks find the root.
    let user = run_with(&store, &settings, &["--gpus", "all", "--userns", "auto"], "true").code(125);
    assert!(user.stderr.contains("user namespace"), "{}", user.stderr);
    assert!(store.container_ids().is_empty());
}

#[test]
fn hooks_that_clean_up_run_also_when_the_monitor_was_killed() {
    let store = store();
    let script = folder(&store, "vendor", &[("hook", HOOK)]).join("hook").display().to_string();
    host("chmod", ["755", &script]).success();
    let log = store.path().join("hooks.log");
    let file = format!(
        "cdiVersion: 0.8.0
kind: vendor.com/gpu
devices: [{{name: all, containerEdits: {{hooks: [{{hookName: poststop, path: {script}, args: [hook, after], \
         env: [PATH=/usr/bin:/bin, LOG={}]}}]}}}}]
",
        log.display()
    );
    let settings = settings_with_cdi(&store, "gpu.yaml", &file);
    let mut command = store.command();
    command.arg("--settings").arg(&settings).args(["run", "-d", "--name", "one", "--network", "none"]);
    let id = Run::of(command.args(["--gpus", "all", IMAGE, "sleep", "1000"]), LIMIT).line();
    kill_monitor(&store, &id);
    assert!(!log.exists());
    store.carrack(["ps"]).success();
    assert!(fs::read_to_string(&log).unwrap().starts_with("after"));
    store.carrack(["rm", "one"]).success();
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 1);
}

/// Settings by which a start with `--gpus all` takes so long.
fn settings_with_sleep(store: &Store, seconds: &str) -> PathBuf {
    let file = format!(
        "cdiVersion: 0.8.0
kind: nvidia.com/gpu
devices:
  - name: all
    containerEdits: {{hooks: [{{hookName: createRuntime, path: /bin/sleep, args: [sleep, '{seconds}']}}]}}
"
    );
    settings_with_cdi(store, "gpu.yaml", &file)
}

#[test]
fn a_signal_that_comes_before_the_program_is_passed_on_to_it() {
    let store = store();
    let settings = settings_with_sleep(&store, "3.1415");
    let mut command = store.command();
    command.arg("--settings").arg(&settings).args(["run", "--rm", "--network", "none", "--gpus", "all"]);
    // Process 1 has it ignored as long as it does not ask for it; that of --init passes it on.
    let mut run = command.args(["--init", IMAGE, "sleep", "1000"]).spawn().unwrap();
    eventually("the hook runs", || processes_with("3.1415").len() == 1);
    kill_process(Pid::from_child(&run), Signal::TERM).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(143));
}

#[test]
fn a_start_that_hangs_is_left_by_signals_and_ended_by_force() {
    let store = store();
    // A time that no other process sleeps.
    let settings = settings_with_sleep(&store, "31415");
    for (name, end) in [("one", ["stop", "one"].as_slice()), ("two", &["rm", "--force", "two"])] {
        let mut command = store.command();
        command.arg("--settings").arg(&settings).args(["run", "--name", name, "--network", "none"]);
        let mut run = command.args(["--gpus", "all", IMAGE, "true"]).stderr(Stdio::piped()).spawn().unwrap();
        eventually("the hook runs", || processes_with("31415").len() == 1);
        for _ in 0..3 {
            assert_eq!(run.try_wait().unwrap(), None, "one signal alone is for the program");
            kill_process(Pid::from_child(&run), Signal::INT).unwrap();
            // Two that come at once are one.
            thread::sleep(Duration::from_millis(200));
        }
        let left = run.wait_with_output().unwrap();
        let message = String::from_utf8(left.stderr).unwrap();
        assert!(left.status.code() == Some(125) && message.contains("interrupted"), "{message}");
        store.carrack(end).success();
        assert_eq!(processes_with("31415"), Vec::<u32>::new());
    }
    assert_eq!(inspect(&store, "one", "{{.State.Status}}"), "exited");
    let id = inspect(&store, "one", "{{.Id}}");
    store.carrack(["rm", "one"]).success();
    assert_no_container_is_left(&store, &id);
}
