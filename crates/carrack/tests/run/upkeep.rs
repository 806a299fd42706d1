//! What is done to containers that exist: attach, restart, rename, port, prune.

use crate::kit::{IMAGE, store, with_input};
use crate::{UNTIL_TERM, await_ready, detached, inspect};

#[test]
fn attach_joins_the_program_and_ends_with_its_exit_code() {
    let store = store();
    let id = detached(&store, &["--interactive"], "echo ready; read word; echo got $word; exit 5");
    await_ready(&store, &id);
    let (code, stdout, _) = with_input(store.command().args(["attach", &id]), b"apple\n");
    assert_eq!((code, stdout.as_str()), (5, "got apple\n"));
    let refused = store.carrack(["attach", &id]).code(1);
    assert!(refused.stderr.contains("not running"), "{}", refused.stderr);
}

#[test]
fn attach_without_stdin_passes_signals_on() {
    let store = store();
    detached(&store, &["--name", "web"], UNTIL_TERM);
    await_ready(&store, "web");
    let mut client = store.command().args(["attach", "--no-stdin", "web"]).spawn().unwrap();
    crate::eventually("the client is attached, and its signal arrives", || {
        // Before it has taken over its signals, TERM ends the client; then another one is attached.
        let pid = rustix::process::Pid::from_child(&client);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let ended = client.wait().unwrap();
        if ended.code() != Some(7) {
            client = store.command().args(["attach", "--no-stdin", "web"]).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        ended.code() == Some(7)
    });
    assert_eq!(inspect(&store, "web", "{{.State.ExitCode}}"), "7");
}

#[test]
fn restart_ends_the_old_program_and_starts_a_new_one() {
    let store = store();
    detached(&store, &["--name", "web"], UNTIL_TERM);
    await_ready(&store, "web");
    let before = inspect(&store, "web", "{{.State.Pid}}");
    assert_eq!(store.carrack(["restart", "web"]).line(), "web");
    assert_ne!(inspect(&store, "web", "{{.State.Pid}}"), before);
    assert_eq!(inspect(&store, "web", "{{.State.Status}}"), "running");
    store.carrack(["kill", "web"]).success();
    store.carrack(["wait", "web"]).success();
    store.carrack(["restart", "web"]).success();
    assert_eq!(inspect(&store, "web", "{{.State.Status}}"), "running", "a stopped one is started");
    store.carrack(["rm", "--force", "web"]).success();
    store.carrack(["restart", "web"]).code(1);
}

#[test]
fn rename_keeps_the_container_and_frees_the_old_name() {
    let store = store();
    let id = detached(&store, &["--name", "one"], UNTIL_TERM);
    store.carrack(["create", "--name", "two", IMAGE, "true"]).success();
    store.carrack(["rename", "one", "two"]).code(1);
    store.carrack(["rename", "one", "-bad"]).code(125);
    store.carrack(["rename", "one", "b/d"]).code(1);
    store.carrack(["rename", "one", "three"]).success();
    assert_eq!(inspect(&store, "three", "{{.Id}}"), id);
    store.carrack(["inspect", "--type", "container", "one"]).code(1);
    store.carrack(["create", "--name", "one", IMAGE, "true"]).success();
    store.carrack(["rm", "--force", "three"]).success();
}

#[test]
fn prune_removes_what_does_not_run() {
    let store = store();
    let running = detached(&store, &["--name", "web"], UNTIL_TERM);
    store.carrack(["create", "--name", "idle", IMAGE, "true"]).success();
    store.carrack(["run", "--network", "none", "--name", "ended", IMAGE, "true"]).success();
    let (code, stdout, _) = with_input(store.command().args(["container", "prune"]), b"n\n");
    assert_eq!(code, 0);
    assert!(stdout.contains("Are you sure"), "{stdout}");
    assert_eq!(store.container_ids().len(), 3, "no is no");
    let pruned = store.carrack(["container", "prune", "--force"]).success().stdout;
    assert!(pruned.contains("Total reclaimed space: ") && pruned.lines().count() == 5, "{pruned}");
    assert_eq!(store.container_ids(), [running]);
    store.carrack(["rm", "--force", "web"]).success();
}
