//! Descriptors of the caller: those that are asked for are passed on, and no other.

use std::process::Command;

use carrack_testkit::Run;

use crate::bundle::Bundle;
use crate::{CARRACK, LIMIT};

/// `carrack runtime run FLAGS` with 3 and 4 open.
fn run(bundle: &Bundle, before: &str, flags: &[&str]) -> Run {
    let script = format!("echo three > a; echo four > b; {before} exec 3<a 4<b; exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", CARRACK, "runtime", "--root"]).arg(bundle.path().join("state"));
    command.arg("run").args(flags).arg(bundle.id()).current_dir(bundle.path());
    Run::of(&mut command, LIMIT)
}

const LIST: &str =
    "cd /proc/self/fd; for fd in 3 4 5 6 7 8 9; do test -e $fd && echo $fd; done; cat <&3; true";

#[test]
fn as_many_as_asked_for_are_passed_on() {
    let bundle = Bundle::new(LIST);
    assert_eq!(run(&bundle, "", &["--preserve-fds", "1"]).success().stdout, "3\nthree\n");
    assert_eq!(run(&bundle, "", &["--preserve-fds=2"]).success().stdout, "3\n4\nthree\n");
}

#[test]
fn none_is_passed_on_otherwise() {
    let bundle = Bundle::new(LIST);
    assert_eq!(run(&bundle, "", &[]).success().stdout, "");
}

#[test]
fn those_of_a_socket_activated_caller_are_passed_on_and_counted() {
    let bundle = Bundle::new("echo $LISTEN_FDS $LISTEN_PID; cat <&3");
    assert_eq!(run(&bundle, "export LISTEN_FDS=1;", &[]).success().stdout, "1 1\nthree\n");
}

#[test]
fn one_that_is_not_open_is_refused_for_the_runtime_would_open_its_own_there() {
    let bundle = Bundle::new("true");
    let error = run(&bundle, "", &["--preserve-fds", "3"]).code(1).stderr;
    assert!(error.contains("descriptor 5"), "{error}");
    assert!(bundle.is_gone());
}
