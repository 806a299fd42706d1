//! What a monitor takes of memory: little, and no more after a flood of output or hundreds of clients.

use std::fs;
use std::process::Stdio;
use std::thread;

use carrack_testkit::Store;

use crate::kit::store;
use crate::{await_ready, detached, eventually};

/// At most, at rest.
const LIMIT_KB: u64 = 500;
/// At most, at rest after work: what many clients at once needed of the heap is kept.
const LIMIT_AFTER_WORK_KB: u64 = 1000;

/// Resident kilobytes of the monitor of a container.
fn resident(store: &Store, id: &str) -> u64 {
    let state = fs::read(store.runroot().join("containers").join(id).join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", state["monitor"]["pid"])).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_monitor_at_rest_is_small_whatever_it_has_done() {
    let store = store();
    let script = "echo ready; trap 'yes | head -c 30000000' USR1; while :; do sleep 0.1; done";
    let id = detached(&store, &["--name", "one", "--log-opt", "max-size=1m"], script);
    await_ready(&store, "one");
    let mut first = 0;
    eventually("it rests", || {
        first = resident(&store, &id);
        first <= LIMIT_KB
    });
    store.carrack(["kill", "--signal", "USR1", "one"]).success();
    let folder = store.root().join("containers").join(&id);
    eventually("the flood is over", || folder.join("container.log.2").exists());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let mut attach = store.command();
                    attach.args(["attach", "--no-stdin", "one"]).stdout(Stdio::null()).stderr(Stdio::null());
                    let mut child = attach.spawn().unwrap();
                    thread::sleep(std::time::Duration::from_millis(3));
                    child.kill().unwrap();
                    child.wait().unwrap();
                }
            });
        }
    });
    eventually("it rests again", || resident(&store, &id) <= LIMIT_AFTER_WORK_KB);
}
