//! Limits that hold: memory and processes.

use crate::inspect;
use crate::kit::{IMAGE, run, store};

#[test]
fn too_much_memory_is_killed_and_said() {
    let store = store();
    let flags = ["run", "--name", "one", "--network", "none", "-m", "16m", "--memory-swap", "16m"];
    store.carrack([&flags[..], &[IMAGE, "tail", "/dev/zero"]].concat()).code(137);
    assert_eq!(inspect(&store, "one", "{{.State.OOMKilled}} {{.State.ExitCode}}"), "true 137");
    store.carrack(["run", "--name", "two", "--network", "none", "-m", "16m", IMAGE, "true"]).success();
    assert_eq!(inspect(&store, "two", "{{.State.OOMKilled}}"), "false");
}

#[test]
fn the_limit_of_processes_holds() {
    let store = store();
    let script = "i=0; while [ $i -lt 30 ]; do sleep 60 & i=$((i + 1)); done; echo made $i";
    let refused = run(&store, &["--pids-limit", "10"], script);
    assert!(refused.stderr.contains("can't fork"), "{}{}", refused.stdout, refused.stderr);
    assert_eq!(run(&store, &["--pids-limit", "40"], script).line(), "made 30");
}
