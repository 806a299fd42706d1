//! `carrack events`: what commands and monitors tell, as it happens and afterwards.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use carrack_testkit::Store;

use crate::kit::{IMAGE, run, store};
use crate::{UNTIL_TERM, await_ready, detached};

/// The actions of past events that pass `filters`.
fn actions(store: &Store, filters: &[&str]) -> Vec<String> {
    let flags = filters.iter().flat_map(|filter| ["--filter", filter]);
    let command = ["events", "--stream=false", "--format", "{{.Action}}"].into_iter().chain(flags);
    store.carrack(command).success().stdout.lines().map(str::to_owned).collect()
}

#[test]
fn a_life_is_told() {
    let store = store();
    run(&store, &[], "exit 3").code(3);
    assert_eq!(actions(&store, &["type=container"]), ["create", "start", "die", "destroy"]);
    let die = ["events", "--stream=false", "--filter", "event=die", "--format"];
    let code = store.carrack(die.into_iter().chain(["{{.Actor.Attributes.exitCode}} {{.from}}"])).line();
    assert_eq!(code, format!("3 {IMAGE}"));
    detached(&store, &["--name", "one", "--label", "tier=front"], UNTIL_TERM);
    await_ready(&store, "one");
    store.carrack(["rename", "one", "two"]).success();
    store.carrack(["stop", "two"]).success();
    store.carrack(["rm", "two"]).success();
    let told = actions(&store, &["label=tier=front"]);
    assert_eq!(told, ["create", "start", "rename", "die", "stop", "destroy"]);
    let line = store.carrack(["events", "--stream=false", "--filter", "event=rename"]).line();
    assert!(
        line.contains(" container rename ") && line.contains("name=two") && line.contains("oldName=one"),
        "{line}"
    );
}

#[test]
fn images_are_told_of() {
    let store = store();
    store.carrack(["tag", IMAGE, "localhost/other:1"]).success();
    store.carrack(["untag", IMAGE, "localhost/other:1"]).success();
    store.carrack(["save", "--output", store.path().join("saved.tar").to_str().unwrap(), IMAGE]).success();
    store.carrack(["rmi", IMAGE]).success();
    store.carrack(["load", "--input", store.path().join("saved.tar").to_str().unwrap()]).success();
    let told = actions(&store, &["type=image"]);
    assert_eq!(told, ["pull", "tag", "tag", "untag", "save", "untag", "delete", "load"]);
}

#[test]
fn events_come_as_they_happen() {
    let store = store();
    let mut command = store.command();
    command.args(["events", "--filter", "type=container", "--format", "{{.Action}}"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The follower has begun when it has made the folder that it watches; from then on nothing is missed.
    crate::eventually("it watches", || {
        let maps = std::fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten().flatten();
        maps.filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .any(|target| target.to_string_lossy().ends_with("events/log"))
    });
    run(&store, &[], "true").success();
    let next: Vec<_> = lines.by_ref().take(4).map(Result::unwrap).collect();
    assert_eq!(next, ["create", "start", "die", "destroy"]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn spans_and_wrong_filters() {
    let store = store();
    run(&store, &[], "true").success();
    assert_eq!(store.carrack(["events", "--since", "1h", "--until", "1m"]).line(), "");
    let all =
        store.carrack(["events", "--since", "1h", "--until", "0s", "--format", "json"]).success().stdout;
    let kinds: Vec<serde_json::Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(kinds.len() > 4 && kinds.iter().all(|event| event["timeNano"].is_i64()), "{all}");
    store.carrack(["events", "--filter", "nonsense"]).code(1);
    store.carrack(["events", "--since", "yesterday"]).code(125);
}
