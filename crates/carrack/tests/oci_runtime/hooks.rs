//! Hooks: their order, their namespaces, what they are told, and what follows when one fails.

use std::fs;

use serde_json::{Value, json};

use crate::bundle::Bundle;

/// A hook that notes its name, its mount namespace and what it was told in a file of the bundle.
fn note(bundle: &Bundle, name: &str) -> Value {
    let file = bundle.path().join("notes");
    let script = format!("echo {name} $(readlink /proc/self/ns/mnt) $(cat) >> {}", file.display());
    json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }])
}

/// Name, namespace and state of each hook that ran.
fn notes(bundle: &Bundle) -> Vec<(String, String, Value)> {
    let text = fs::read_to_string(bundle.path().join("notes")).unwrap_or_default();
    let parse = |line: &str| {
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        let (name, namespace) = (words.next().unwrap(), words.next().unwrap());
        (name, namespace, serde_json::from_str(&words.next().unwrap()).unwrap())
    };
    text.lines().map(parse).collect()
}

fn with_notes(script: &str) -> Bundle {
    let bundle = Bundle::new(script);
    bundle.edit(|config| {
        let outside = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
        config["hooks"] = outside.map(|name| (name.to_owned(), note(&bundle, name))).into_iter().collect();
        config["root"]["readonly"] = json!(false);
        let script = "{ echo startContainer $(readlink /proc/self/ns/mnt); cat; } > /note; id -u >> /note";
        config["hooks"]["startContainer"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"] }]);
    });
    bundle
}

#[test]
fn hooks_run_in_order_each_in_its_namespace_with_the_state_of_the_moment() {
    let bundle = with_notes("cat /note; sleep 600");
    let names = |bundle: &Bundle| notes(bundle).into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
    bundle.create(&[]).success();
    assert_eq!(names(&bundle), ["prestart", "createRuntime", "createContainer"]);
    assert!(!bundle.rootfs().join("note").exists());
    bundle.runtime(&["start", "ID"]).success();
    assert_eq!(names(&bundle)[3..], ["poststart"]);
    bundle.runtime(&["kill", "ID", "KILL"]).success();
    bundle.until("stopped");
    let pid = notes(&bundle)[0].2["pid"].clone();
    bundle.runtime(&["delete", "ID"]).success();
    assert_eq!(names(&bundle)[4..], ["poststop"]);

    let host = fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string();
    let (mut inside, mut states) = (Vec::new(), Vec::new());
    for (name, namespace, state) in notes(&bundle) {
        assert_eq!((&state["id"], &state["ociVersion"]), (&json!(bundle.id()), &json!("1.2.0")));
        assert_eq!(state["bundle"], json!(bundle.path().canonicalize().unwrap()));
        if namespace != host {
            inside.push(name.clone());
        }
        states.push(state["status"].as_str().unwrap().to_owned());
        // As its reader sees the process: in the container's pid namespace it is the first.
        let expected = match name.as_str() {
            "createContainer" => json!(1),
            "poststop" => Value::Null,
            _ => pid.clone(),
        };
        assert_eq!(state["pid"], expected, "{name}");
    }
    assert_eq!(inside, ["createContainer"]);
    assert_eq!(states, ["creating", "creating", "creating", "running", "stopped"]);
    let note = fs::read_to_string(bundle.rootfs().join("note")).unwrap();
    assert!(note.starts_with("startContainer mnt:") && !note.contains(&host), "{note}");
    assert!(note.contains(r#""status":"created","pid":1"#), "{note}");
}

#[test]
fn hooks_before_the_start_see_the_root_filesystem_with_its_mounts() {
    let bundle = Bundle::new("cat /from-hook");
    let script = format!("test -e {0}/proc/self && echo ahoy > {0}/from-hook", bundle.rootfs().display());
    bundle.edit(|config| {
        config["hooks"]["createContainer"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }]);
    });
    assert_eq!(bundle.runtime(&["run", "ID"]).line(), "ahoy");
}

#[test]
fn a_hook_that_fails_before_the_start_undoes_the_container() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = with_notes("true");
        bundle.edit(|config| {
            config["hooks"][kind] =
                json!([{ "path": "/bin/sh", "args": ["sh", "-c", "echo no >&2; exit 3"] }]);
        });
        let error = bundle.create(&[]).code(1).stderr;
        assert!(error.contains(kind) && error.contains("no"), "{kind}: {error}");
        assert_eq!(notes(&bundle).last().unwrap().0, "poststop", "{kind}");
        assert!(bundle.is_gone(), "{kind}");
    }
}

#[test]
fn a_hook_that_fails_at_the_start_stops_the_container() {
    for kind in ["startContainer", "poststart"] {
        let bundle = with_notes("sleep 600");
        bundle.edit(|config| {
            config["hooks"][kind] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", "exit 3"] }]);
        });
        bundle.create(&[]).success();
        let error = bundle.runtime(&["start", "ID"]).code(1).stderr;
        assert!(error.contains(kind), "{error}");
        bundle.until("stopped");
        bundle.runtime(&["delete", "ID"]).success();
    }
}

#[test]
fn a_hook_that_fails_after_the_end_is_logged_and_the_next_is_run() {
    let bundle = Bundle::new("true");
    bundle.edit(|config| {
        let failing = json!({ "path": "/bin/sh", "args": ["sh", "-c", "exit 3"] });
        config["hooks"]["poststop"] = json!([failing, note(&bundle, "poststop")[0]]);
    });
    let run = bundle.runtime(&["run", "ID"]).success();
    assert!(run.stderr.contains("level=warning") && run.stderr.contains("poststop"), "{}", run.stderr);
    assert_eq!(notes(&bundle).len(), 1);
    assert!(bundle.is_gone());
}

#[test]
fn a_hook_with_a_relative_path_or_no_time_is_refused() {
    let bundle = Bundle::new("true");
    for hook in [json!({ "path": "bin/sh" }), json!({ "path": "/bin/sh", "timeout": 0 })] {
        bundle.edit(|config| config["hooks"]["poststop"] = json!([hook]));
        assert!(bundle.create(&[]).code(1).stderr.contains("expected a"));
        assert!(bundle.is_gone());
    }
}
