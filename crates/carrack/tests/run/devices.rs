//! Devices of the host: which nodes a container has, and which it can open.

use std::path::Path;

use carrack_testkit::Store;

use crate::kit::{IMAGE, LIMIT, host, run, store};
use crate::{folder, inspect};
use carrack_testkit::Run;

/// A device that containers do not have: whether it can be opened does not depend on there being a driver.
const MAJOR_MINOR: [&str; 2] = ["10", "229"];

/// A node of that device in a folder of the test.
fn node(store: &Store) -> String {
    let folder = folder(store, "nodes", &[("note", "")]);
    let path = folder.join("node").display().to_string();
    host("mknod", ["-m", "666", &path, "c", MAJOR_MINOR[0], MAJOR_MINOR[1]]).success();
    path
}

/// Tries to open `/dev/there` for reading and for writing.
const TRY: &str = "(: < /dev/there) 2>&1; echo '|'; (: > /dev/there) 2>&1; true";

/// Which of the two were refused by the rules of the cgroup.
#[track_caller]
fn refused(ran: Run) -> (bool, bool) {
    let output = ran.success().stdout;
    let (read, write) = output.split_once('|').expect(&output);
    let is_refused = |text: &str| text.contains("not permitted");
    assert!(!output.contains("No such file"), "{output}");
    (is_refused(read), is_refused(write))
}

#[test]
fn a_device_can_be_opened_as_far_as_it_was_given() {
    let store = store();
    let node = node(&store);
    let given = |access: &str| run(&store, &["--device", &format!("{node}:/dev/there{access}")], TRY);
    assert_eq!(refused(given("")), (false, false));
    assert_eq!(refused(given(":r")), (false, true));
    // The node alone is not enough.
    let make = format!("busybox mknod /dev/there c {} {}; {TRY}", MAJOR_MINOR[0], MAJOR_MINOR[1]);
    assert_eq!(refused(run(&store, &["--cap-add", "MKNOD"], &make)), (true, true));
    let rule = format!("c {}:* rw", MAJOR_MINOR[0]);
    let flags = ["--cap-add", "MKNOD", "--device-cgroup-rule", &rule];
    assert_eq!(refused(run(&store, &flags, &make)), (false, false));
}

#[test]
fn a_folder_of_devices_is_given_whole_and_inspect_shows_all() {
    let store = store();
    let node = node(&store);
    let nodes = Path::new(&node).parent().unwrap().display().to_string();
    let listed = run(&store, &["--device", &format!("{nodes}:/dev/all")], "ls -l /dev/all/*").line();
    assert!(listed.starts_with("crw-rw-rw-") && listed.contains("10, 229"), "{listed}");
    let mapping = format!("{node}:/dev/there:r");
    let rule = "c 10:* r";
    let create = [
        "create",
        "--name",
        "one",
        "--network",
        "none",
        "--device",
        &mapping,
        "--device-cgroup-rule",
        rule,
        "--gpus",
        "all",
        "--device",
        "vendor.com/device=0",
        IMAGE,
    ];
    store.carrack(create).success();
    let format =
        "{{range .HostConfig.Devices}}{{.PathOnHost}} {{.PathInContainer}} {{.CgroupPermissions}}{{end}}";
    assert_eq!(inspect(&store, "one", format), format!("{node} /dev/there r"));
    assert_eq!(inspect(&store, "one", "{{.HostConfig.DeviceCgroupRules}}"), format!("[{rule}]"));
    let format = "{{range .HostConfig.DeviceRequests}}{{.Driver}} {{.Count}} {{.DeviceIDs}};{{end}}";
    assert!(inspect(&store, "one", format).contains("cdi 0 [vendor.com/device=0]"));
    for wrong in [
        &["--device", "/dev/absent"][..],
        &["--device", "/etc/passwd"],
        &["--device", "relative"],
        &["--device", "/dev/null:/dev/x:q"],
        &["--device-cgroup-rule", "c 10"],
        &["--gpus", "some"],
    ] {
        assert_eq!(run(&store, wrong, "true").code, 125, "{wrong:?}");
    }
}

#[test]
fn a_cdi_file_says_what_a_device_needs() {
    let store = store();
    let node = node(&store);
    let file = format!(
        "cdiVersion: 0.8.0
kind: nvidia.com/gpu
devices:
  - name: all
    containerEdits:
      deviceNodes: [{{path: /dev/there, hostPath: {node}, permissions: r}}]
containerEdits:
  env: [GPU=yes]
  mounts: [{{hostPath: /etc/passwd, containerPath: /vendor/passwd}}]
"
    );
    let hooks = r#"{"cdiVersion": "0.8.0", "kind": "vendor.com/hook", "devices": [{"name": "x",
        "containerEdits": {"hooks": [{"hookName": "createRuntime", "path": "/bin/true"}]}}]}"#;
    let files = folder(&store, "cdi", &[("gpu.yaml", &file), ("hook.json", hooks)]);
    let settings = format!("[containers]\ncdi_spec_dirs = [{:?}]\n", files.display().to_string());
    let settings = folder(&store, "settings", &[("carrack.toml", &settings)]).join("carrack.toml");
    let with = |flags: &[&str], script: &str| {
        let mut command = store.command();
        command.arg("--settings").arg(&settings).args(["run", "--rm", "--network", "none"]);
        Run::of(command.args(flags).args([IMAGE, "sh", "-c", script]), LIMIT)
    };
    for flags in [&["--gpus", "all"][..], &["--device", "nvidia.com/gpu=all"]] {
        let seen =
            with(flags, "echo $GPU; head -c 4 /vendor/passwd; touch /vendor/passwd 2>/dev/null || echo ro");
        assert_eq!(seen.line(), "yes\nrootro", "{flags:?}");
        assert_eq!(refused(with(flags, TRY)), (false, true), "{flags:?}");
    }
    let absent = with(&["--device", "nvidia.com/gpu=9"], "true").code(125);
    assert!(absent.stderr.contains("nvidia.com/gpu=9"), "{}", absent.stderr);
    let hook = with(&["--device", "vendor.com/hook=x"], "true").code(125);
    assert!(hook.stderr.contains("hooks"), "{}", hook.stderr);
}
