//! Restart policies: who is started again, how that is ended, and what runs after a reboot.

use std::fs;
use std::time::{Duration, Instant};

use carrack_testkit::Store;

use crate::crash::kill_monitor;
use crate::kit::{IMAGE, store};
use crate::{UNTIL_TERM, assert_no_container_is_left, await_ready, cgroups, detached, eventually, inspect};

/// Adds a line to a file of the host at each start.
const COUNTS: &str = "echo start >>/count/starts";

/// Starts a container that counts its starts in a folder of the host; returns its ID.
fn counting(store: &Store, policy: &str, script: &str) -> String {
    let folder = store.path().join("count");
    fs::create_dir_all(&folder).unwrap();
    let bind = format!("{}:/count", folder.display());
    let flags = ["--name", "one", "--restart", policy, "--volume", &bind];
    detached(store, &flags, &format!("{COUNTS}; {script}"))
}

fn starts(store: &Store) -> usize {
    fs::read_to_string(store.path().join("count/starts")).unwrap_or_default().lines().count()
}

#[test]
fn a_failing_container_is_restarted_as_often_as_its_policy_says() {
    let store = store();
    counting(&store, "on-failure:2", "exit 3");
    assert_eq!(store.carrack(["wait", "one"]).line(), "3");
    eventually("it has ended for good", || inspect(&store, "one", "{{.State.Status}}") == "exited");
    assert_eq!(starts(&store), 3);
    let format = "{{.RestartCount}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    assert_eq!(inspect(&store, "one", format), "2 on-failure 2");
    store.carrack(["start", "one"]).success();
    eventually("it counts anew", || starts(&store) == 6);
}

#[test]
fn success_ends_what_restarts_on_failure() {
    let store = store();
    counting(&store, "on-failure", "exit 0");
    assert_eq!(store.carrack(["wait", "one"]).line(), "0");
    assert_eq!(starts(&store), 1);
}

#[test]
fn stop_kill_and_rm_end_a_container_that_restarts() {
    let store = store();
    let id = counting(&store, "always", "exit 1");
    let listed = || store.carrack(["ps", "--format", "{{.Status}}"]).line();
    eventually("it waits for its turn", || listed().starts_with("Restarting (1)"));
    assert_eq!(inspect(&store, "one", "{{.State.Restarting}} {{.State.Running}}"), "true true");
    let begun = Instant::now();
    store.carrack(["stop", "one"]).success();
    assert!(begun.elapsed() < Duration::from_secs(8), "nobody waits for the next start");
    let count = starts(&store);
    assert_eq!(inspect(&store, "one", "{{.State.Status}}"), "exited");
    store.carrack(["start", "one"]).success();
    eventually("it restarts again", || starts(&store) > count + 1);
    store.carrack(["kill", "one"]);
    eventually("it has ended", || inspect(&store, "one", "{{.State.Status}}") == "exited");
    store.carrack(["start", "one"]).success();
    store.carrack(["rm", "--force", "one"]).success();
    assert_no_container_is_left(&store, &id);
}

#[test]
fn a_container_that_is_stopped_stays_stopped() {
    let store = store();
    counting(&store, "always", UNTIL_TERM);
    await_ready(&store, "one");
    store.carrack(["stop", "one"]).success();
    assert_eq!(inspect(&store, "one", "{{.State.Status}} {{.State.ExitCode}}"), "exited 7");
    assert_eq!(starts(&store), 1);
}

#[test]
fn a_program_that_is_killed_runs_again_with_all_it_had() {
    let store = store();
    let id = counting(&store, "unless-stopped", UNTIL_TERM);
    await_ready(&store, "one");
    let pid = inspect(&store, "one", "{{.State.Pid}}").parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("it runs again", || {
        inspect(&store, "one", "{{.RestartCount}} {{.State.Status}}") == "1 running"
    });
    assert!(!cgroups(&id).is_empty());
    store.carrack(["exec", "one", "true"]).success();
    store.carrack(["rm", "--force", "one"]).success();
    assert_no_container_is_left(&store, &id);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let store = store();
    let create = |flags: &[&str]| store.carrack([&["create", "--network", "none"], flags, &[IMAGE]].concat());
    let refused = create(&["--rm", "--restart", "always"]).code(125);
    assert!(refused.stderr.contains("--rm"), "{}", refused.stderr);
    create(&["--rm", "--restart", "no"]).success();
    for policy in ["sometimes", "on-failure:x", "always:2"] {
        create(&["--restart", policy]).code(125);
    }
}

#[test]
fn a_start_of_a_running_container_leaves_it_alone() {
    let store = store();
    detached(&store, &["--name", "one"], UNTIL_TERM);
    await_ready(&store, "one");
    store.carrack(["start", "one"]).success();
    store.carrack(["start", "--attach", "one"]).code(125);
    store.carrack(["exec", "one", "true"]).success();
    assert_eq!(inspect(&store, "one", "{{.State.Status}}"), "running");
}

/// What a reboot does to a store: nothing runs, and the run folder is gone.
pub fn reboot(store: &Store, ids: &[&str]) {
    for id in ids {
        if store.runroot().join("containers").join(id).join("attach").exists()
            && inspect(store, id, "{{.State.Pid}}") != "0"
        {
            kill_monitor(store, id);
        }
        for cgroup in cgroups(id) {
            let _ = fs::write(cgroup.join("cgroup.kill"), "1");
            for pid in fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default().lines() {
                let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            eventually("its processes are gone", || {
                fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default().is_empty()
            });
            let _ = fs::remove_dir(cgroup);
        }
    }
    fs::remove_dir_all(store.runroot()).unwrap();
}

#[test]
fn a_reboot_leaves_nothing_of_a_container_that_is_removed_when_it_ends() {
    let store = store();
    let id = detached(&store, &["--rm", "--name", "one"], UNTIL_TERM);
    await_ready(&store, "one");
    store.carrack(["exec", "one", "touch", "/written"]).success();
    assert_eq!(store.container_ids(), [id.as_str()]);
    reboot(&store, &[&id]);
    assert_no_container_is_left(&store, &id);
    detached(&store, &["--rm", "--name", "one"], "exit 0");
}

#[test]
fn what_a_killed_monitor_has_not_removed_the_next_command_removes() {
    let store = store();
    let id = store.carrack(["create", "--rm", "--network", "none", IMAGE, "true"]).line();
    let state = r#"{"status":"exited","exit_code":0}"#;
    fs::write(store.runroot().join("containers").join(&id).join("state.json"), state).unwrap();
    assert_no_container_is_left(&store, &id);
}

#[test]
fn after_a_reboot_policies_say_what_runs() {
    let store = store();
    let start = |name: &str, policy: &str| {
        let id = detached(&store, &["--name", name, "--restart", policy], UNTIL_TERM);
        await_ready(&store, name);
        id
    };
    let ids = [
        start("always", "always"),
        start("stopped-always", "always"),
        start("unless", "unless-stopped"),
        start("stopped-unless", "unless-stopped"),
        start("failed", "on-failure"),
        start("never", "no"),
    ];
    store.carrack(["stop", "stopped-always", "stopped-unless"]).success();
    store
        .carrack(["create", "--name", "created", "--restart", "always", "--network", "none", IMAGE])
        .success();
    reboot(&store, &ids.each_ref().map(String::as_str));
    let started = store.carrack(["system", "start"]).success().stdout;
    assert_eq!(started, "always\nstopped-always\nunless\nfailed\n");
    let names = store.carrack(["ps", "--format", "{{.Names}}"]).success().stdout;
    let mut names: Vec<_> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["always", "failed", "stopped-always", "unless"]);
    assert_eq!(store.carrack(["system", "start"]).line(), "", "they run already");

    let mut stopped: Vec<_> = store
        .carrack(["system", "stop", "--time", "5"])
        .success()
        .stdout
        .lines()
        .map(str::to_owned)
        .collect();
    stopped.sort_unstable();
    assert_eq!(stopped, ["always", "failed", "stopped-always", "unless"]);
    assert_eq!(store.carrack(["ps", "--quiet"]).line(), "");
    let started = store.carrack(["system", "start"]).success().stdout;
    assert_eq!(started, "always\nstopped-always\nunless\nfailed\n", "the host stopped them, no user");
}
