//! `carrack init`: all of a container is there but its program, until it is started or given up.

use std::fs;

use carrack_testkit::Store;

use crate::crash::kill_monitor;
use crate::kit::{IMAGE, host, store};
use crate::restarts::reboot;
use crate::{UNTIL_TERM, assert_no_container_is_left, await_ready, cgroups, eventually, inspect};

/// Creates a container that runs `script`, and initializes it; returns its ID.
#[track_caller]
fn initialized(store: &Store, flags: &[&str], script: &str) -> String {
    let create = ["create", "--name", "one", "--network", "none"];
    let id = store.carrack([&create, flags, &[IMAGE, "sh", "-c", script]].concat()).line();
    assert_eq!(store.carrack(["init", "one"]).line(), "one");
    id
}

fn status(store: &Store) -> String {
    inspect(store, "one", "{{.State.Status}}")
}

#[test]
fn what_is_initialized_has_everything_but_its_program() {
    let store = store();
    let id = initialized(&store, &["-m", "64m", "--tmpfs", "/here"], UNTIL_TERM);
    assert_eq!(inspect(&store, "one", "{{.State.Status}} {{.State.Running}}"), "initialized false");
    let pid = inspect(&store, "one", "{{.State.Pid}}");
    assert_ne!(pid, "0");
    let namespace = |pid: &str, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    for kind in ["mnt", "net", "pid", "ipc", "uts"] {
        assert_ne!(namespace(&pid, kind), namespace("self", kind), "{kind}");
    }
    assert!(!cgroups(&id).is_empty());
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert!(mounts.contains(" /here ") && mounts.contains(" /proc "), "{mounts}");
    assert_eq!(store.carrack(["ps", "-q"]).line(), "");
    assert_eq!(store.carrack(["ps", "-a", "--format", "{{.Status}}"]).line(), "Initialized");
    assert_eq!(store.carrack(["ps", "-aq", "--filter", "status=initialized"]).line(), id[..12]);
    assert_eq!(store.carrack(["logs", "one"]).line(), "");
    store.carrack(["exec", "one", "true"]).code(1);
    store.carrack(["attach", "one"]).code(1);
    assert!(store.carrack(["init", "one"]).code(1).stderr.contains("initialized already"));
    // What is copied into it is there when the program runs.
    let file = store.path().join("note");
    fs::write(&file, "copied").unwrap();
    store.carrack(["cp", file.to_str().unwrap(), "one:/here/note"]).success();

    assert_eq!(store.carrack(["start", "one"]).line(), "one");
    await_ready(&store, "one");
    assert_eq!(inspect(&store, "one", "{{.State.Status}} {{.State.Pid}}"), format!("running {pid}"));
    assert_eq!(store.carrack(["exec", "one", "cat", "/here/note"]).line(), "copied");
    assert!(store.carrack(["init", "one"]).code(1).stderr.contains("running already"));
    store.carrack(["stop", "one"]).success();
    assert_eq!(store.carrack(["wait", "one"]).line(), "7");
    // What has ended can be initialized too.
    store.carrack(["init", "one"]).success();
    assert_eq!(status(&store), "initialized");
    store.carrack(["rm", "one"]).success();
    assert_no_container_is_left(&store, &id);
}

#[test]
fn the_starter_gets_the_output_the_terminal_and_the_exit_code() {
    let store = store();
    let id = initialized(&store, &["-i"], "echo out; echo err >&2; read line; echo $line; exit 3");
    let mut command = store.command();
    command.args(["start", "--attach", "--interactive", "one"]);
    let (code, stdout, stderr) = crate::kit::with_input(&mut command, b"in\n");
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (3, "out\nin\n", "err\n"));
    store.carrack(["rm", "one"]).success();
    assert_no_container_is_left(&store, &id);
    let id = initialized(&store, &["--rm", "-t"], "test -t 1 && echo terminal");
    assert_eq!(store.carrack(["start", "--attach", "one"]).line().trim(), "terminal");
    assert_no_container_is_left(&store, &id);
}

#[test]
fn what_cannot_run_cannot_be_initialized() {
    let store = store();
    let create = ["create", "--name", "one", "--network", "none", IMAGE, "no-such-program"];
    let id = store.carrack(create).line();
    let failed = store.carrack(["init", "one"]).code(1);
    assert!(failed.stderr.contains("no-such-program"), "{}", failed.stderr);
    assert_eq!(status(&store), "created");
    assert_eq!(cgroups(&id), Vec::<std::path::PathBuf>::new());
    store.carrack(["rm", "one"]).success();
    assert_no_container_is_left(&store, &id);
}

#[test]
fn what_is_initialized_can_be_stopped_killed_and_restarted() {
    let store = store();
    let id = initialized(&store, &["--restart", "always"], UNTIL_TERM);
    store.carrack(["stop", "one"]).success();
    assert_eq!(inspect(&store, "one", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    store.carrack(["init", "--latest"]).success();
    // Killed from outside: what has never run is not started again by its policy.
    host("kill", ["-9", &inspect(&store, "one", "{{.State.Pid}}")]).success();
    eventually("the end is seen", || status(&store) == "exited");
    store.carrack(["init", "one"]).success();
    store.carrack(["restart", "one"]).success();
    await_ready(&store, "one");
    store.carrack(["rm", "-f", "one"]).success();
    assert_no_container_is_left(&store, &id);
}

#[test]
fn a_lost_monitor_or_host_leaves_what_was_never_run() {
    let store = store();
    let id = initialized(&store, &[], UNTIL_TERM);
    let pid = inspect(&store, "one", "{{.State.Pid}}");
    kill_monitor(&store, &id);
    assert_eq!(status(&store), "created");
    store.carrack(["ps"]).success();
    assert_eq!(cgroups(&id), Vec::<std::path::PathBuf>::new());
    assert!(!std::path::Path::new("/proc").join(pid).join("root/bin").exists(), "its first process is there");
    assert_eq!(store.carrack(["init", "--all"]).line(), id);
    reboot(&store, &[&id]);
    assert_eq!(status(&store), "created");
    // Once it ran, a reboot is an end.
    store.carrack(["init", "one"]).success();
    store.carrack(["start", "one"]).success();
    await_ready(&store, "one");
    reboot(&store, &[&id]);
    assert_eq!(inspect(&store, "one", "{{.State.Status}} {{.State.ExitCode}}"), "exited 255");
    store.carrack(["rm", "one"]).success();
    assert_no_container_is_left(&store, &id);
}
