//! `exec`: processes in a container that runs.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::bundle::Bundle;

fn running() -> Bundle {
    let bundle = Bundle::new("sleep 600");
    bundle.edit(|config| config["process"]["env"].as_array_mut().unwrap().push(json!("OF=container")));
    bundle.create(&[]).success();
    bundle.runtime(&["start", "ID"]).success();
    bundle
}

#[test]
fn a_process_gets_what_its_flags_say_and_its_exit_code_is_that_of_exec() {
    let bundle = running();
    let flags = ["exec", "--env", "A=1", "--cwd", "/bin", "--user", "12:34", "ID"];
    let script = ["sh", "-c", "echo $A $OF $(pwd) $(id -u) $(id -g); exit 7"];
    let run = bundle.runtime(&[&flags[..], &script[..]].concat()).code(7);
    assert_eq!(run.stdout, "1 container /bin 12 34\n");
    let error = bundle.runtime(&["exec", "ID", "no-such-program"]);
    assert!(error.code != 0 && error.stderr.contains("executable file not found in"), "{}", error.stderr);
}

#[test]
fn capabilities_are_added_by_name() {
    let bundle = running();
    let bounding = |flags: &[&str]| {
        let words = [&["exec"], flags, &["ID", "cat", "/proc/self/status"]].concat();
        let text = bundle.runtime(&words).success().stdout;
        let line = text.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim().to_owned();
        u64::from_str_radix(&line, 16).unwrap()
    };
    let net_admin = 1 << 12;
    assert_eq!(bounding(&[]) & net_admin, 0);
    assert_eq!(bounding(&["--cap", "CAP_NET_ADMIN"]), bounding(&[]) | net_admin);
    assert!(bundle.runtime(&["exec", "--cap", "CAP_X", "ID", "true"]).code(125).stderr.contains("CAP_X"));
}

#[test]
fn a_process_of_the_specification_runs_detached_with_a_pid_file() {
    let bundle = running();
    let process = json!({
        "cwd": "/", "args": ["sleep", "600"], "env": ["PATH=/bin"], "user": { "uid": 5, "gid": 6 },
    });
    fs::write(bundle.path().join("process.json"), process.to_string()).unwrap();
    // Its streams are those of exec: they must not keep the test waiting.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec \"$@\" >/dev/null 2>&1", "sh", crate::CARRACK, "runtime", "--root"]);
    command.arg(bundle.path().join("state")).current_dir(bundle.path());
    command.args(["exec", "--detach", "--process", "process.json", "--pid-file", "pid", &bundle.id()]);
    carrack_testkit::Run::of(&mut command, crate::LIMIT).success();
    let pid = fs::read_to_string(bundle.path().join("pid")).unwrap();
    let status = fs::read_to_string(Path::new("/proc").join(&pid).join("status")).unwrap();
    assert!(status.contains("Uid:\t5\t5\t5\t5"), "{status}");
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_eq!(namespace(&pid), namespace(&bundle.state()["pid"].to_string()));
    let listed = bundle.runtime(&["ps", "--format", "json", "ID"]).success().stdout;
    assert!(listed.contains(&pid), "{listed}");
}

#[test]
fn a_container_that_stands_still_or_has_stopped_runs_no_further_process() {
    let bundle = running();
    bundle.runtime(&["pause", "ID"]).success();
    assert!(bundle.runtime(&["exec", "ID", "true"]).code(1).stderr.contains("paused"));
    bundle.runtime(&["resume", "ID"]).success();
    bundle.runtime(&["exec", "ID", "true"]).success();
    bundle.runtime(&["kill", "ID", "KILL"]).success();
    bundle.until("stopped");
    assert!(bundle.runtime(&["exec", "ID", "true"]).code(1).stderr.contains("stopped"));
}
