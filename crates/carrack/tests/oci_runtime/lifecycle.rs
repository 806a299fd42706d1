//! Create, start, kill, delete, and what each status allows.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use carrack_testkit::Run;
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::{CARRACK, LIMIT};

#[test]
fn a_container_goes_through_its_statuses() {
    let bundle = Bundle::new("echo ran; exec sleep 600");
    bundle.edit(|config| config["annotations"] = json!({ "a.b": "c" }));
    bundle.create(&["--pid-file", "pid"]).success();
    let state = bundle.state();
    let pid = fs::read_to_string(bundle.path().join("pid")).unwrap();
    assert_eq!(state["ociVersion"], "1.2.0");
    assert_eq!((&state["status"], state["pid"].to_string()), (&json!("created"), pid));
    assert_eq!(state["bundle"], json!(bundle.path().canonicalize().unwrap()));
    assert_eq!(state["annotations"], json!({ "a.b": "c" }));
    assert_eq!(bundle.output(), "");
    assert!(bundle.create(&[]).code(1).stderr.contains("exists"));

    bundle.runtime(&["start", "ID"]).success();
    assert_eq!(bundle.state()["status"], "running");
    assert!(bundle.runtime(&["start", "ID"]).code(1).stderr.contains("expected the status created"));
    assert!(bundle.runtime(&["delete", "ID"]).code(1).stderr.contains("expected the status stopped"));
    assert_eq!(bundle.state()["status"], "running");

    bundle.runtime(&["kill", "ID", "KILL"]).success();
    bundle.until("stopped");
    assert_eq!(bundle.output(), "ran\n");
    assert!(bundle.runtime(&["kill", "ID", "9"]).code(1).stderr.contains("container not running"));
    bundle.runtime(&["delete", "ID"]).success();
    assert!(bundle.runtime(&["state", "ID"]).code(1).stderr.contains("does not exist"));
    assert!(bundle.is_gone());
}

#[test]
fn changes_of_the_config_after_the_creation_have_no_effect() {
    let bundle = Bundle::new("echo first");
    bundle.create(&[]).success();
    bundle.edit(|config| config["process"]["args"] = json!(["echo", "second"]));
    bundle.runtime(&["start", "ID"]).success();
    bundle.until("stopped");
    assert_eq!(bundle.output(), "first\n");
}

#[test]
fn a_created_container_is_deleted_by_force_alone() {
    let bundle = Bundle::new("true");
    bundle.create(&[]).success();
    bundle.runtime(&["delete", "ID"]).code(1);
    bundle.runtime(&["delete", "--force", "ID"]).success();
    assert!(bundle.is_gone());
    bundle.runtime(&["delete", "--force", "ID"]).success();
    bundle.runtime(&["delete", "ID"]).code(1);
}

#[test]
fn a_program_that_is_missing_fails_the_creation_and_nothing_is_left() {
    let bundle = Bundle::new("");
    bundle.edit(|config| config["process"]["args"] = json!(["no-such-program"]));
    let error = bundle.create(&[]).code(1).stderr;
    // The words by which podman tells exit code 127.
    assert!(error.contains("executable file not found in"), "{error}");
    assert!(bundle.is_gone());
    bundle.edit(|config| config["process"]["args"] = json!(["/bin"]));
    bundle.create(&[]).code(1);
    assert!(bundle.is_gone());
}

#[test]
fn run_waits_passes_signals_and_has_the_exit_code() {
    let bundle = Bundle::new("trap 'exit 9' TERM; echo ready; sleep 600 & wait");
    let script = r#""$@" & child=$!; until test -s out; do sleep 0.01; done; kill -TERM $child; wait $child"#;
    let mut command = Command::new("sh");
    command.args(["-c", &format!("({script}) >out"), "sh", CARRACK, "runtime", "--root"]);
    command.arg(bundle.path().join("state")).args(["run", &bundle.id()]).current_dir(bundle.path());
    Run::of(&mut command, LIMIT).code(9);
    assert!(bundle.is_gone());
}

#[test]
fn options_may_stand_before_and_behind_the_id() {
    let bundle = Bundle::new("true");
    let id = bundle.id();
    bundle.create(&["--no-new-keyring"]).success();
    bundle.runtime(&["kill", "ID", "--all", "KILL"]).success();
    bundle.until("stopped");
    bundle.runtime(&["delete", "ID", "-f"]).success();
    assert!(!bundle.runtime(&["list", "--quiet"]).success().stdout.contains(&id));
}

#[test]
fn a_link_called_carrack_runtime_is_the_runtime() {
    let bundle = Bundle::new("echo ahoy");
    let program = bundle.path().join("carrack-runtime");
    symlink(CARRACK, &program).unwrap();
    let version = Run::of(Command::new(&program).arg("--version"), LIMIT).success().stdout;
    assert!(version.starts_with("carrack-runtime ") && version.contains("spec: 1.2.0"), "{version}");
    let mut command = Command::new(&program);
    command.arg("--root").arg(bundle.path().join("state")).arg("run").arg("--bundle").arg(bundle.path());
    assert_eq!(Run::of(command.arg(bundle.id()), LIMIT).line(), "ahoy");
}

#[test]
fn errors_go_to_the_log_as_json() {
    let bundle = Bundle::new("true");
    let log = bundle.path().join("log");
    bundle.runtime(&["--log", log.to_str().unwrap(), "--log-format", "json", "state", "nobody"]).code(1);
    let line: Value = serde_json::from_str(fs::read_to_string(&log).unwrap().trim()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("container does not exist"), "{line}");
    assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    bundle.runtime(&["--log", log.to_str().unwrap(), "state", "nobody"]).code(1);
    assert!(fs::read_to_string(&log).unwrap().lines().nth(1).unwrap().contains("level=error"));
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_made() {
    let bundle = Bundle::new("true");
    let refusal = |arguments: &[&str]| bundle.runtime(arguments).code(1).stderr;
    assert!(refusal(&["--systemd-cgroup", "create", "ID"]).contains("--cgroup-manager=cgroupfs"));
    assert!(refusal(&["create", "../escape"]).contains("container id"));
    assert!(refusal(&["create", "--console-socket", "/nowhere", "ID"]).contains("without"));
    bundle.edit(|config| config["linux"]["cgroupsPath"] = json!("system.slice:carrack:one"));
    assert!(refusal(&["create", "ID"]).contains("--systemd-cgroup"));
    bundle.edit(|config| config["root"]["path"] = json!("/"));
    assert!(refusal(&["create", "ID"]).contains("host's root"));
    assert!(bundle.is_gone());
}

#[test]
fn unknown_properties_are_ignored_and_annotations_are_kept() {
    let bundle = Bundle::new("echo ran");
    bundle.edit(|config| {
        config["newInSomeVersion"] = json!({"a": [1]});
        config["linux"]["newInSomeVersion"] = json!(true);
        config["process"]["newInSomeVersion"] = json!("x");
        config["annotations"] = json!({"org.opencontainers.image.os": "linux", "com.example.unknown": ""});
    });
    bundle.create(&[]).success();
    let kept = json!({"org.opencontainers.image.os": "linux", "com.example.unknown": ""});
    assert_eq!(bundle.state()["annotations"], kept);
    bundle.runtime(&["start", "ID"]).success();
    bundle.until("stopped");
    assert_eq!(bundle.output(), "ran\n");
}

#[test]
fn a_limit_that_the_host_cannot_hold_and_a_missing_process_are_refused() {
    let bundle = Bundle::new("true");
    bundle.edit(|config| config["linux"]["resources"]["unified"] = json!({"nonsense.max": "1"}));
    let error = bundle.create(&[]).code(1).stderr;
    assert!(error.contains("nonsense.max") || error.contains("cgroup v2"), "{error}");
    bundle.edit(|config| {
        config["linux"]["resources"] = json!({});
        config.as_object_mut().unwrap().remove("process");
    });
    assert!(bundle.create(&[]).code(1).stderr.contains("expected a process"));
    assert!(bundle.is_gone());
}

#[test]
fn the_root_is_read_only_where_the_spec_says_so_and_chroot_will_do_without_a_pivot() {
    let bundle = Bundle::new("touch /file && echo written");
    bundle.runtime(&["run", "ID"]).code(1);
    bundle.edit(|config| config["root"]["readonly"] = json!(false));
    assert_eq!(bundle.runtime(&["run", "--no-pivot", "ID"]).line(), "written");
    assert!(bundle.rootfs().join("file").exists());
}

#[test]
fn a_bundle_mounts_folders_relative_to_itself() {
    let bundle = Bundle::new("cat /data/file");
    fs::create_dir(bundle.path().join("data")).unwrap();
    fs::write(bundle.path().join("data/file"), "ahoy\n").unwrap();
    bundle.edit(|config| {
        config["root"]["readonly"] = json!(false);
        let mount =
            json!({ "destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "ro"] });
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    let mut command = Command::new(CARRACK);
    command.args(["runtime", "--root"]).arg(bundle.path().join("state")).current_dir("/");
    command.arg("run").arg("-b").arg(bundle.path()).arg(bundle.id());
    assert_eq!(Run::of(&mut command, LIMIT).line(), "ahoy");
}
