//! Log drivers and their options, and `logs` of what they keep.

use std::fs;
use std::path::Path;

use crate::kit::{IMAGE, run, store};
use crate::{detached, inspect};

fn wait(store: &carrack_testkit::Store, name: &str) {
    store.carrack(["wait", name]).success();
}

#[test]
fn kubernetes_lines_are_written_and_read() {
    let store = store();
    let path = store.path().join("logs/one.log");
    let opt = format!("path={}", path.display());
    let flags = ["--name", "one", "--log-driver", "k8s-file", "--log-opt", &opt];
    detached(&store, &flags, "echo out; echo err >&2; printf rest");
    wait(&store, "one");
    let text = fs::read_to_string(&path).unwrap();
    let tails: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert!(tails.contains(&"stdout F out") && tails.contains(&"stderr F err"), "{text}");
    assert!(tails.contains(&"stdout P rest"), "{text}");
    let logs = store.carrack(["logs", "one"]).success();
    assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("out\nrest", "err\n"));
    assert_eq!(
        inspect(&store, "one", "{{.LogPath}} {{.HostConfig.LogConfig.Type}}"),
        format!("{} k8s-file", path.display())
    );
}

#[test]
fn logs_are_rotated_and_read_across_files() {
    let store = store();
    let flags = ["--name", "one", "--log-opt", "max-size=128k", "--log-opt", "max-file=3"];
    let id = detached(&store, &flags, "i=0; while [ $i -lt 10000 ]; do echo line $i; i=$((i+1)); done");
    wait(&store, "one");
    let folder = store.root().join("containers").join(&id);
    let sizes: Vec<u64> = ["container.log", "container.log.1", "container.log.2"]
        .map(|name| fs::metadata(folder.join(name)).unwrap().len())
        .into();
    assert!(sizes.iter().all(|size| *size <= 128 << 10), "{sizes:?}");
    assert!(!folder.join("container.log.3").exists());
    let logs = store.carrack(["logs", "one"]).success().stdout;
    let lines: Vec<_> = logs.lines().collect();
    assert!(lines.len() > 1000 && *lines.last().unwrap() == "line 9999", "{} lines", lines.len());
    let first: usize = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
    assert_eq!(lines.len(), 10_000 - first, "none is missing in between");
    let tail = store.carrack(["logs", "--tail", "1000", "one"]).success().stdout;
    assert_eq!(tail.lines().count(), 1000, "also from the file before");
    assert_eq!(store.carrack(["logs", "-n", "0", "one"]).line(), "");
}

#[test]
fn details_show_what_options_add() {
    let store = store();
    let flags = [
        "--name",
        "one",
        "--label",
        "tier=front",
        "--env",
        "MODE=fast",
        "--log-opt",
        "labels=tier,absent",
        "--log-opt",
        "env=MODE",
        "--log-opt",
        "tag={{.Name}}/{{.ID}}",
    ];
    let id = detached(&store, &flags, "echo out");
    wait(&store, "one");
    let line = store.carrack(["logs", "--details", "one"]).line();
    assert_eq!(line, format!("MODE=fast,tag=one/{},tier=front out", &id[..12]));
    assert_eq!(store.carrack(["logs", "one"]).line(), "out");
}

#[test]
fn none_keeps_nothing_and_says_so() {
    let store = store();
    let output = run(&store, &["--log-driver", "none"], "echo seen").success().stdout;
    assert_eq!(output, "seen\n", "whoever is there sees it");
    let id = detached(&store, &["--name", "one", "--log-driver", "none"], "echo out");
    wait(&store, "one");
    let refused = store.carrack(["logs", "one"]).code(1);
    assert!(refused.stderr.contains("log driver none"), "{}", refused.stderr);
    assert!(!store.root().join("containers").join(id).join("container.log").exists());
}

#[test]
fn passthrough_gives_the_callers_streams() {
    let store = store();
    let script = "readlink /proc/self/fd/1; echo err >&2";
    let run = run(&store, &["--log-driver", "passthrough"], script).success();
    assert!(run.stdout.starts_with("pipe:") && run.stderr == "err\n", "{run:?}");
    store.carrack(["create", "-t", "--log-driver", "passthrough", IMAGE]).code(125);
}

#[test]
fn what_a_driver_does_not_know_is_refused() {
    let store = store();
    let create = |flags: &[&str]| {
        store.carrack([&["create", "--network", "none"], flags, &[IMAGE]].concat()).code(125).stderr
    };
    assert!(create(&["--log-driver", "syslogd"]).contains("log driver"));
    assert!(create(&["--log-opt", "nonsense=1"]).contains("nonsense"));
    assert!(create(&["--log-opt", "max-size"]).contains("NAME=VALUE"));
    if !Path::new("/run/systemd/journal/socket").exists() {
        assert!(create(&["--log-driver", "journald"]).contains("journal"));
    }
    assert_eq!(store.container_ids(), Vec::<String>::new());
}

#[test]
fn logs_of_several_containers() {
    let store = store();
    detached(&store, &["--name", "one"], "echo 1");
    detached(&store, &["--name", "two"], "echo 2");
    wait(&store, "one");
    wait(&store, "two");
    assert_eq!(store.carrack(["logs", "--names", "one", "two"]).success().stdout, "one 1\ntwo 2\n");
    let mut both: Vec<_> = store
        .carrack(["logs", "--follow", "one", "two"])
        .success()
        .stdout
        .lines()
        .map(str::to_owned)
        .collect();
    both.sort_unstable();
    assert_eq!(both, ["1", "2"]);
    let failed = store.carrack(["logs", "one", "absent"]).code(1);
    assert_eq!(failed.stdout, "");
}
