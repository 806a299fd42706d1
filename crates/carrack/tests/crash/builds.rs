//! Builds: killed at their calls, and with a `RUN` that is at work.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;

use carrack_testkit::Store;
use rustix::process::{Pid, Signal, kill_process};

use super::kit::{self, store};
use super::strace::{Fault, points, run_with, sample};
use super::{assert_nothing_runs, assert_runs, assert_whole, cgroups, eventually, sandboxes, words};

const KILLS: usize = 5;

/// A build context of a Dockerfile and the file `one`.
fn context(store: &Store, dockerfile: &str) -> PathBuf {
    let folder = store.path().join("context");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    fs::write(folder.join("one"), "1").unwrap();
    folder
}

#[test]
fn a_killed_build() {
    let dockerfile =
        "FROM localhost/busybox:1\nCOPY one /one\nRUN printf 2 > /two && rm /bin/vi\nRUN echo 3 > /three\n";
    let prepare = || {
        let store = store();
        context(&store, dockerfile);
        store
    };
    let arguments = |store: &Store| {
        let context = store.path().join("context");
        words(&["build", "--quiet", "--network", "none", "--tag", "app", context.to_str().unwrap()])
    };
    let reference = prepare();
    let points = sample(&points(&reference, &arguments(&reference)), KILLS);
    let mut killed = 0;
    for point in &points {
        let (store, when) = (prepare(), format!("killed at {point:?}"));
        killed += usize::from(run_with(&store, point, Fault::Kill, &arguments(&store)).code != 0);
        let mut ids = sandboxes(&store);
        assert_whole(&store, &when);
        let run = store.carrack(arguments(&store));
        assert_eq!(run.code, 0, "{when}: {}", run.stderr);
        let listed = store.carrack(["images", "--quiet", "--no-trunc"]).line();
        assert!(listed.contains(&kit::id(&store, "app")), "{when}: {listed}");
        assert_runs(&store, "app", &when);
        ids.extend(sandboxes(&store));
        assert_nothing_runs(&store, &ids);
    }
    assert!(killed >= points.len() / 2, "only {killed} of {points:?} were reached");
}

/// A build whose `RUN` has begun and does not end, and the sandbox that it runs in.
fn endless_build(store: &Store) -> (Child, BTreeSet<String>) {
    let context = context(store, "FROM localhost/busybox:1\nRUN echo begun && sleep 1000\n");
    let mut command = store.command();
    command.args(["build", "--network", "none", context.to_str().unwrap()]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line == "begun")));
    // Warnings about the end have a reader to the end.
    thread::spawn(move || lines.count());
    let ids = sandboxes(store);
    assert!(!ids.is_empty() && !cgroups(&ids).is_empty(), "{ids:?}");
    (child, ids)
}

/// The command of a `RUN` does not outlive the build that wanted its result.
#[test]
fn a_build_that_is_killed_takes_its_command_along() {
    let store = store();
    let (mut child, ids) = endless_build(&store);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_nothing_runs(&store, &ids);
    eventually("the files of the step are gone", || sandboxes(&store).is_empty());
}

/// A stage that is killed cannot take its sandbox down; the next build does.
#[test]
fn what_a_killed_stage_leaves_goes_with_the_next_build() {
    let store = store();
    let (mut child, ids) = endless_build(&store);
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let stage = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(stage).unwrap(), Signal::KILL).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let folder = store.path().join("context");
    fs::write(folder.join("Dockerfile"), "FROM localhost/busybox:1\nENV A=1\n").unwrap();
    store.carrack(["build", "--quiet", folder.to_str().unwrap()]).success();
    assert_nothing_runs(&store, &ids);
    assert!(sandboxes(&store).is_empty());
}
