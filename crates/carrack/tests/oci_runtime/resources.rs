//! Limits, accounting, standing still, and lists.

use std::fs;

use serde_json::{Value, json};

use crate::bundle::Bundle;

fn running() -> Bundle {
    let bundle = Bundle::new("sleep 600");
    bundle.create(&[]).success();
    bundle.runtime(&["start", "ID"]).success();
    bundle
}

#[test]
fn a_container_stands_still_and_goes_on() {
    let bundle = running();
    bundle.runtime(&["resume", "ID"]).code(1);
    bundle.runtime(&["pause", "ID"]).success();
    assert_eq!(bundle.state()["status"], "paused");
    bundle.runtime(&["pause", "ID"]).code(1);
    bundle.runtime(&["resume", "ID"]).success();
    assert_eq!(bundle.state()["status"], "running");
    bundle.runtime(&["pause", "ID"]).success();
    bundle.runtime(&["delete", "--force", "ID"]).success();
    assert!(bundle.is_gone());
}

/// The processes limit as the kernel has it, whichever hierarchy holds it.
fn pids_limit(bundle: &Bundle) -> String {
    let folders =
        ["pids/", ""].map(|one| format!("/sys/fs/cgroup/{one}carrack-runtime/{}/pids.max", bundle.id()));
    let text = folders.iter().find_map(|file| fs::read_to_string(file).ok());
    text.expect("there is a pids controller").trim().to_owned()
}

#[test]
fn limits_are_changed_by_flags_and_by_a_file() {
    let bundle = running();
    bundle.runtime(&["update", "--pids-limit", "77", "ID"]).success();
    assert_eq!(pids_limit(&bundle), "77");
    fs::write(bundle.path().join("limits"), r#"{"pids": {"limit": 88}}"#).unwrap();
    bundle.runtime(&["update", "--resources", "limits", "ID"]).success();
    assert_eq!(pids_limit(&bundle), "88");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec \"$@\" < limits", "sh", crate::CARRACK, "runtime", "--root"]);
    fs::write(bundle.path().join("limits"), r#"{"pids": {"limit": 99}}"#).unwrap();
    command.arg(bundle.path().join("state")).current_dir(bundle.path());
    assert!(
        command
            .args(["update", "-r", "-", &bundle.id()])
            .stdin(std::process::Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(pids_limit(&bundle), "99");
}

#[test]
fn events_tell_what_is_used_in_the_form_of_runc() {
    let bundle = running();
    let event: Value =
        serde_json::from_str(&bundle.runtime(&["events", "--stats", "ID"]).success().stdout).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(bundle.id())));
    assert!(event["data"]["pids"]["current"].as_u64().unwrap() >= 1, "{event}");
    assert!(event["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{event}");
    bundle.runtime(&["events", "--interval", "soon", "ID"]).code(125);
}

#[test]
fn containers_and_processes_are_listed() {
    let bundle = running();
    let rows: Value =
        serde_json::from_str(&bundle.runtime(&["list", "--format", "json"]).success().stdout).unwrap();
    assert_eq!((&rows[0]["id"], &rows[0]["status"]), (&json!(bundle.id()), &json!("running")));
    assert_eq!(bundle.runtime(&["list", "-q"]).line(), bundle.id());
    let table = bundle.runtime(&["list"]).success().stdout;
    assert!(table.starts_with("ID") && table.contains("running"), "{table}");
    let table = bundle.runtime(&["ps", "ID", "-o", "pid,args"]).success().stdout;
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.contains("sleep 600"), "{table}");
}

#[test]
fn a_cgroup_with_processes_of_others_is_refused_and_left_alone() {
    let (one, two) = (running(), Bundle::new("true"));
    two.edit(|config| config["linux"]["cgroupsPath"] = json!(format!("/carrack-runtime/{}", one.id())));
    assert!(two.create(&[]).code(1).stderr.contains("without processes"));
    assert_eq!(one.state()["status"], "running");
}

#[test]
fn the_features_document_names_hooks_and_namespaces() {
    let bundle = Bundle::empty();
    let features: Value = serde_json::from_str(&bundle.runtime(&["features"]).success().stdout).unwrap();
    assert_eq!(features["ociVersionMax"], "1.2.0");
    assert_eq!(features["hooks"].as_array().unwrap().len(), 6);
    assert!(features["linux"]["namespaces"].as_array().unwrap().contains(&json!("time")));
}
