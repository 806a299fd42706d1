//! A monitor that dies: the next command notices, and undoes what it left.

use std::fs;

use carrack_testkit::Store;
use rustix::process::{Pid, Signal, kill_process};

use crate::kit::store;
use crate::{
    UNTIL_TERM, assert_no_container_is_left, await_ready, cgroups, detached, eventually, inspect,
    processes_with,
};

/// Kills the monitor of a container as the state names it.
#[track_caller]
pub fn kill_monitor(store: &Store, id: &str) {
    let state = fs::read(store.runroot().join("containers").join(id).join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    let pid = i32::try_from(state["monitor"]["pid"].as_i64().unwrap()).unwrap();
    let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(arguments.starts_with("carrack-stage\0monitor"), "{arguments:?}");
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    // A process has no arguments any more a moment before it counts as dead.
    eventually("the monitor is dead", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with(['Z', 'X']))
    });
}

#[test]
fn a_killed_monitor_is_noticed_and_its_container_starts_again() {
    let store = store();
    let id = detached(&store, &["--name", "one"], UNTIL_TERM);
    await_ready(&store, "one");
    let first = inspect(&store, "one", "{{.State.Pid}}");
    kill_monitor(&store, &id);
    let status = store.carrack(["ps", "--all", "--format", "{{.Status}}"]).line();
    assert!(status.starts_with("Exited (255)"), "{status}");
    assert!(cgroups(&id).is_empty(), "{:?}", cgroups(&id));
    assert!(!std::path::Path::new("/proc").join(first).join("root/bin").exists(), "the program still runs");
    store.carrack(["start", "one"]).success();
    store.carrack(["stop", "one"]).success();
    assert_eq!(store.carrack(["wait", "one"]).line(), "7");
    store.carrack(["rm", "one"]).success();
    assert_no_container_is_left(&store, &id);
}

#[test]
fn a_container_of_a_killed_monitor_can_be_removed() {
    let store = store();
    let id = detached(&store, &["--rm"], UNTIL_TERM);
    await_ready(&store, &id);
    kill_monitor(&store, &id);
    store.carrack(["rm", "--force", &id]).success();
    assert_no_container_is_left(&store, &id);
}

#[test]
fn a_killed_run_leaves_the_container_to_its_monitor() {
    let store = store();
    let mut command = store.command();
    command.args(["run", "--name", "one", "--network", "none", crate::kit::IMAGE, "sh", "-c", UNTIL_TERM]);
    let mut client = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    eventually("the container runs", || store.carrack(["logs", "one"]).stdout.contains("ready"));
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(inspect(&store, "one", "{{.State.Running}}"), "true");
    store.carrack(["stop", "one"]).success();
    assert_eq!(inspect(&store, "one", "{{.State.ExitCode}}"), "7");
    assert!(processes_with(&store.path().display().to_string()).is_empty());
}
