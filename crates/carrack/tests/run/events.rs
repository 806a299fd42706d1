//! `carrack events`: what commands and monitors tell, as it happens and afterwards.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

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
    assert_eq!(actions(&store, &["type=container"]), ["create", "attach", "start", "die", "destroy"]);
    let die = ["events", "--stream=false", "--filter", "event=die", "--format"];
    let code = store.carrack(die.into_iter().chain(["{{.Actor.Attributes.exitCode}} {{.from}}"])).line();
    assert_eq!(code, format!("3 {IMAGE}"));
    detached(&store, &["--name", "one", "--label", "tier=front"], UNTIL_TERM);
    await_ready(&store, "one");
    store.carrack(["rename", "one", "two"]).success();
    store.carrack(["stop", "two"]).success();
    store.carrack(["rm", "two"]).success();
    let told = actions(&store, &["label=tier=front"]);
    assert_eq!(told, ["create", "start", "rename", "kill", "die", "stop", "destroy"]);
    let line = store.carrack(["events", "--stream=false", "--filter", "event=rename"]).line();
    assert!(
        line.contains(" container rename ") && line.contains("name=two") && line.contains("oldName=one"),
        "{line}"
    );
}

#[test]
fn what_is_done_to_a_running_container_is_told() {
    let store = store();
    let id = detached(&store, &["--name", "one"], UNTIL_TERM);
    await_ready(&store, "one");
    let since = |past: usize| actions(&store, &[]).split_off(past);
    let begin = actions(&store, &[]).len();
    store.carrack(["pause", "one"]).success();
    store.carrack(["unpause", "one"]).success();
    store.carrack(["top", "one"]).success();
    store.carrack(["update", "--memory", "64m", "--restart", "on-failure:3", "one"]).success();
    store.carrack(["exec", "one", "sh", "-c", "exit 4"]).code(4);
    store.carrack(["cp", "one:/bin/busybox", store.path().join("copied").to_str().unwrap()]).success();
    store.carrack(["cp", store.path().join("copied").to_str().unwrap(), "one:/copy"]).success();
    store.carrack(["export", "--output", store.path().join("tar").to_str().unwrap(), "one"]).success();
    store.carrack(["commit", "one", "localhost/new:1"]).success();
    let command = ": sh -c exit 4";
    let told = [
        "pause",
        "unpause",
        "top",
        "update",
        "exec_create",
        "exec_start",
        "exec_die",
        "archive-path",
        "extract-to-dir",
        "export",
        "create",
        "commit",
    ];
    let seen: Vec<_> = since(begin).iter().map(|action| action.replace(command, "")).collect();
    assert_eq!(seen, told);
    // The three of one exec have the same id.
    let exec = |format: &str| {
        let flags = ["--filter", "event=exec_create", "--filter", "event=exec_die", "--format", format];
        store.carrack(["events", "--stream=false"].into_iter().chain(flags)).success().stdout
    };
    let ids = exec("{{.Actor.Attributes.execID}}");
    let (first, second) = ids.trim().split_once('\n').unwrap();
    assert_eq!((first, first.len()), (second, 64));
    // Podman's names of fields and of what happens.
    assert_eq!(exec("{{.Status}} {{.Name}} {{.ContainerExitCode}}"), "exec_create one 0\nexec_died one 4\n");
    let podmans =
        ["events", "--stream=false", "--filter", "event=exec_died", "--format", "{{.ID}} {{.Image}}"];
    assert_eq!(store.carrack(podmans).line(), format!("{id} {IMAGE}"));
    // A reboot leaves them.
    crate::restarts::reboot(&store, &[&id]);
    assert_eq!(since(begin)[..2], ["pause", "unpause"]);
}

#[test]
fn sessions_on_a_terminal_are_told() {
    let store = store();
    store.carrack(["run", "-dit", "--name", "one", "--network", "none", IMAGE]).success();
    let mut attach = vec![store.command().get_program().to_string_lossy().into_owned()];
    attach.extend(store.command().get_args().map(|word| word.to_string_lossy().into_owned()));
    let line = format!("stty rows 33 cols 77; {} attach --detach-keys ctrl-x,x one", attach.join(" "));
    let mut session = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut keys = session.stdin.take().unwrap();
    crate::eventually("the session has ended", || {
        let _ = keys.write_all(b"\x18x");
        session.try_wait().unwrap().is_some()
    });
    let told = actions(&store, &["container=one", "event=attach", "event=detach", "event=resize"]);
    assert_eq!(told, ["attach", "resize", "detach"]);
    let size = ["--format", "{{.Actor.Attributes.height}}x{{.Actor.Attributes.width}}"];
    let resize = ["events", "--stream=false", "--filter", "event=resize"].into_iter().chain(size);
    assert_eq!(store.carrack(resize).line(), "33x77");
    store.carrack(["rm", "-f", "one"]).success();
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
    let next: Vec<_> = lines.by_ref().take(5).map(Result::unwrap).collect();
    assert_eq!(next, ["create", "attach", "start", "die", "destroy"]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn spans_and_wrong_filters() {
    let store = store();
    run(&store, &[], "true").success();
    assert_eq!(store.carrack(["events", "--since", "1h", "--until", "1m"]).line(), "");
    assert_eq!(store.carrack(["events", "--stream", "--since", "1h", "--until", "1m"]).line(), "");
    let all =
        store.carrack(["events", "--since", "1h", "--until", "0s", "--format", "json"]).success().stdout;
    let kinds: Vec<serde_json::Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(kinds.len() > 4 && kinds.iter().all(|event| event["timeNano"].is_i64()), "{all}");
    store.carrack(["events", "--filter", "nonsense"]).code(1);
    store.carrack(["events", "--since", "yesterday"]).code(125);
}
