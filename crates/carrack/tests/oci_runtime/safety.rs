//! What a hostile bundle must not reach, and what others do with a bundle that says little.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use carrack_testkit::Run;
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::{CARRACK, LIMIT};

fn without_cgroup_namespace(config: &mut Value) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "cgroup");
    for mount in config["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["nosuid", "noexec", "nodev"]);
        }
    }
}

#[test]
fn without_a_cgroup_namespace_the_hosts_cgroups_are_not_shown() {
    let bundle = Bundle::new(
        "for f in /sys/fs/cgroup/*/cgroup.procs; do echo $f $(cat $f | wc -l); done; cat /sys/fs/cgroup/pids/pids.max",
    );
    bundle.edit(|config| {
        without_cgroup_namespace(config);
        config["linux"]["resources"]["pids"] = json!({ "limit": 77 });
    });
    let output = bundle.runtime(&["run", "ID"]).success().stdout;
    let (counts, limit) = output.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(limit, "77", "its own limit, not that of the root");
    for line in counts.lines() {
        let count: u32 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(count < 10, "the processes of the container alone: {line}");
    }
}

#[test]
fn a_hook_of_the_image_can_do_no_more_than_the_program() {
    let bundle = Bundle::new("cat /status");
    bundle.edit(|config| {
        config["root"]["readonly"] = json!(false);
        config["process"]["noNewPrivileges"] = json!(true);
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }],
        });
        let script = "busybox grep -E 'NoNewPrivs|Seccomp:' /proc/self/status > /status; busybox mkdir /made 2>> /status";
        config["hooks"]["startContainer"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("{script}; true")], "env": ["PATH=/bin"] }]);
    });
    let output = bundle.runtime(&["run", "ID"]).success().stdout;
    assert!(output.contains("NoNewPrivs:\t1\nSeccomp:\t2") && output.contains("can't create"), "{output}");
    assert!(!bundle.rootfs().join("made").exists());
}

#[test]
fn an_id_that_means_no_change_is_refused() {
    for (field, value) in
        [("uid", json!(u32::MAX)), ("gid", json!(u32::MAX)), ("additionalGids", json!([1, u32::MAX]))]
    {
        let bundle = Bundle::new("id");
        bundle.edit(|config| config["process"]["user"][field] = value);
        let run = bundle.runtime(&["run", "ID"]);
        assert!(run.code != 0 && run.stderr.contains("expected users and groups below"), "{field}: {run:?}");
        assert!(bundle.is_gone());
    }
}

#[test]
fn a_stopped_container_that_is_deleted_ends_no_other_in_its_cgroup() {
    let (first, second) = (Bundle::new("sleep 600"), Bundle::new("sleep 600"));
    let path = format!("/carrack-runtime/shared-{}", first.id());
    for bundle in [&first, &second] {
        bundle.edit(|config| config["linux"]["cgroupsPath"] = json!(path));
    }
    let root = first.path().join("state");
    let runtime = |words: &[&str]| {
        Run::of(Command::new(CARRACK).args(["runtime", "--root"]).arg(&root).args(words), LIMIT)
    };
    let start = |bundle: &Bundle| {
        let script = "exec \"$@\" </dev/null >/dev/null 2>&1";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", CARRACK, "runtime", "--root"]).arg(&root);
        command.args(["run", "--detach", "--bundle"]).arg(bundle.path()).arg(bundle.id());
        Run::of(&mut command, LIMIT).success();
    };
    start(&first);
    runtime(&["kill", &first.id(), "KILL"]).success();
    first.until("stopped");
    start(&second);
    runtime(&["delete", &first.id()]).success();
    let state: Value = serde_json::from_str(&runtime(&["state", &second.id()]).success().stdout).unwrap();
    assert_eq!(state["status"], "running");
    runtime(&["delete", "--force", &second.id()]).success();
    assert!(!Path::new("/sys/fs/cgroup/pids").join(path.trim_start_matches('/')).exists());
}

#[test]
fn a_relative_root_is_one_below_the_working_folder() {
    let bundle = Bundle::new("echo ahoy");
    let mut command = Command::new(CARRACK);
    command.args(["runtime", "--root", "relative", "run"]).arg(bundle.id()).current_dir(bundle.path());
    assert_eq!(Run::of(&mut command, LIMIT).line(), "ahoy");
    assert!(bundle.path().join("relative").is_dir());
}

#[test]
fn a_capability_that_is_not_known_is_left_out() {
    let bundle = Bundle::new("echo ahoy");
    bundle.edit(|config| {
        config["process"]["capabilities"]["bounding"].as_array_mut().unwrap().push(json!("CAP_FOO"));
    });
    let run = bundle.runtime(&["run", "ID"]).success();
    assert!(run.stdout == "ahoy\n" && run.stderr.contains("CAP_FOO"), "{run:?}");
}

#[test]
fn devices_are_made_also_where_dev_is_no_new_file_system() {
    let bundle = Bundle::new("ls /dev/null /dev/own /own /dev/fd; echo x > /dev/own");
    bundle.edit(|config| {
        config["root"]["readonly"] = json!(false);
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        let device = |path: &str| json!({ "path": path, "type": "c", "major": 1, "minor": 3 });
        config["linux"]["devices"] = json!([device("/dev/own"), device("/own")]);
        // Whoever may make no devices has none on its root either.
        config["process"]["capabilities"]["bounding"].as_array_mut().unwrap().push(json!("CAP_MKNOD"));
    });
    let run = bundle.runtime(&["run", "ID"]).success();
    assert!(run.stdout.contains("/dev/null") && run.stdout.contains("/own"), "{run:?}");
}

#[test]
fn who_has_no_home_gets_that_of_its_user() {
    let bundle = Bundle::new("echo $HOME; sleep 600");
    fs::create_dir(bundle.rootfs().join("etc")).unwrap();
    fs::write(
        bundle.rootfs().join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n",
    )
    .unwrap();
    bundle.edit(|config| {
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        config["process"]["env"] = json!(["PATH=/bin"]);
    });
    bundle.create(&[]).success();
    bundle.runtime(&["start", "ID"]).success();
    assert_eq!(bundle.runtime(&["exec", "--user", "0", "ID", "sh", "-c", "echo $HOME"]).line(), "/root");
    assert_eq!(bundle.runtime(&["exec", "--env", "HOME=/x", "ID", "sh", "-c", "echo $HOME"]).line(), "/x");
    bundle.runtime(&["kill", "ID", "KILL"]).success();
    bundle.until("stopped");
    assert_eq!(bundle.output(), "/home/u\n");
}

#[test]
fn hooks_have_a_umask_and_may_take_for_ever() {
    let bundle = Bundle::new("true");
    let made: PathBuf = bundle.path().join("made");
    bundle.edit(|config| {
        let args = ["sh", "-c", &format!("umask > {}", made.display())];
        config["hooks"]["createContainer"] =
            json!([{ "path": "/bin/sh", "args": args, "timeout": i64::MAX }]);
    });
    bundle.runtime(&["run", "ID"]).success();
    assert_eq!(fs::read_to_string(made).unwrap(), "0022\n");
}

#[test]
fn without_rules_no_device_but_the_usual_ones_is_open() {
    for resources in [None, Some(json!({})), Some(json!({ "devices": [] }))] {
        let bundle = Bundle::new("cat /dev/null && cat /dev/kmsg-copy");
        bundle.edit(|config| {
            match &resources {
                None => drop(config["linux"].as_object_mut().unwrap().remove("resources")),
                Some(resources) => config["linux"]["resources"] = resources.clone(),
            }
            // The loop control, which a host has and a container does not get.
            let device = json!({ "path": "/dev/kmsg-copy", "type": "c", "major": 10, "minor": 237 });
            config["linux"]["devices"] = json!([device]);
        });
        let run = bundle.runtime(&["run", "ID"]);
        assert!(run.code != 0 && run.stderr.contains("Operation not permitted"), "{resources:?}: {run:?}");
    }
}

#[test]
fn what_the_specification_forbids_is_refused() {
    let with = |change: &dyn Fn(&mut Value)| {
        let bundle = Bundle::new("true");
        bundle.edit(|config| change(config));
        let run = bundle.runtime(&["run", "ID"]);
        assert!(run.code != 0 && bundle.is_gone(), "{run:?}");
        run.stderr
    };
    let relative = with(&|config| config["process"]["cwd"] = json!("tmp"));
    assert!(relative.contains("absolute working directory"), "{relative}");
    let limit = json!([{ "type": "RLIMIT_NOFILE", "soft": 300, "hard": 200 }]);
    let limits = with(&|config| config["process"]["rlimits"] = limit.clone());
    assert!(limits.contains("up to the hard one"), "{limits}");
    for destination in ["/", ""] {
        let root = with(&|config| {
            let mount = json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs" });
            config["mounts"].as_array_mut().unwrap().push(mount);
        });
        assert!(root.contains("got the root itself"), "{root}");
    }
}
