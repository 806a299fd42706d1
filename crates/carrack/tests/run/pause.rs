//! Paused containers: nothing in them moves, and what other commands may do with them.

use std::time::Duration;

use carrack_testkit::Store;

use crate::kit::{IMAGE, store};
use crate::{UNTIL_TERM, assert_no_container_is_left, await_ready, detached, eventually, inspect};

/// How many lines the container has printed.
fn lines(store: &Store) -> usize {
    store.carrack(["logs", "one"]).success().stdout.lines().count()
}

#[test]
fn a_paused_container_stands_still_until_it_is_unpaused() {
    let store = store();
    detached(&store, &["--name", "one"], "while :; do echo x; sleep 0.01; done");
    eventually("it prints", || lines(&store) > 3);
    store.carrack(["pause", "one"]).success();
    // The monitor may still have to read what is in the pipe.
    std::thread::sleep(Duration::from_millis(100));
    let printed = lines(&store);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(lines(&store), printed);
    let state = inspect(&store, "one", "{{.State.Status}} {{.State.Paused}} {{.State.Running}}");
    assert_eq!(state, "paused true true");
    let status = store.carrack(["ps", "--format", "{{.Status}} {{.State}}"]).line();
    assert!(status.ends_with("(Paused) paused"), "{status}");
    assert_eq!(lines(&store), printed, "looking at it does not wake it");
    store.carrack(["unpause", "one"]).success();
    eventually("it prints again", || lines(&store) > printed);
    assert_eq!(inspect(&store, "one", "{{.State.Status}}"), "running");
    store.carrack(["unpause", "one"]).code(1);
}

#[test]
fn what_needs_a_moving_container_is_refused_and_what_does_not_works() {
    let store = store();
    detached(&store, &["--name", "one"], "echo kept > /file; echo ready; sleep 1000");
    await_ready(&store, "one");
    store.carrack(["container", "pause", "one"]).success();
    for refused in [
        &["pause", "one"][..],
        &["start", "one"],
        &["attach", "one"],
        &["exec", "one", "true"],
        &["rm", "one"],
    ] {
        let run = store.carrack(refused);
        assert!(run.code != 0 && run.stderr.contains("paused"), "{refused:?}: {} {}", run.code, run.stderr);
    }
    store.carrack(["commit", "one", "localhost/kept:1"]).success();
    assert_eq!(inspect(&store, "one", "{{.State.Status}}"), "paused", "a commit does not wake it");
    let kept = store.carrack(["run", "--rm", "--network", "none", "localhost/kept:1", "cat", "/file"]);
    assert_eq!(kept.line(), "kept");
    store.carrack(["unpause", "one"]).success();
    store.carrack(["exec", "one", "true"]).success();
    store.carrack(["create", "--name", "two", "--network", "none", IMAGE]).success();
    store.carrack(["pause", "two"]).code(1);
    store.carrack(["pause", "absent"]).code(1);
}

#[test]
fn a_paused_container_can_be_ended() {
    let store = store();
    let id = detached(&store, &["--name", "one"], UNTIL_TERM);
    await_ready(&store, "one");
    store.carrack(["pause", "one"]).success();
    store.carrack(["stop", "one"]).success();
    assert_eq!(store.carrack(["wait", "one"]).line(), "7", "it could handle the signal");
    store.carrack(["start", "one"]).success();
    store.carrack(["pause", "one"]).success();
    store.carrack(["kill", "one"]).success();
    assert_eq!(store.carrack(["wait", "one"]).line(), "137");
    store.carrack(["start", "one"]).success();
    store.carrack(["pause", "one"]).success();
    store.carrack(["rm", "--force", "one"]).success();
    assert_no_container_is_left(&store, &id);
}
