//! From `run` or `create` to `rm`: streams, exit codes, names, logs, `exec`, and several commands at once.

use std::io::Write;
use std::process::Stdio;
use std::thread;

use crate::kit::{IMAGE, run, store, with_input};
use crate::{UNTIL_TERM, assert_no_container_is_left, await_ready, cgroups, detached, inspect};

#[test]
fn output_and_errors_stay_apart_and_there_is_no_input() {
    let store = store();
    let run = run(&store, &[], "echo out; echo err >&2; cat").success();
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn interactive_input_reaches_the_program_to_its_end() {
    let store = store();
    let input = "a line of input\n".repeat(100_000);
    let mut command = store.command();
    command.args(["run", "--rm", "-i", "--network", "none", IMAGE, "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Written while the output is read: neither pipe holds all of it.
    let output = thread::scope(|scope| {
        let bytes = input.as_bytes();
        scope.spawn(move || stdin.write_all(bytes).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success());
    assert!(output.stdout == input.as_bytes(), "{} of {} bytes came back", output.stdout.len(), input.len());
}

#[test]
fn exit_codes_are_those_of_docker() {
    let store = store();
    run(&store, &[], "exit 3").code(3);
    run(&store, &["--init"], "kill -9 $$").code(137);
    run(&store, &["--no-such-flag"], "true").code(125);
    run(&store, &["--volume", "/etc:relative"], "true").code(125);
    let flags = ["run", "--rm", "--network", "none"];
    let with = |rest: &[&str]| store.carrack([&flags, rest].concat());
    with(&["--pull", "never", "localhost/absent"]).code(125);
    with(&[IMAGE, "/etc/passwd"]).code(126);
    with(&[IMAGE, "/etc"]).code(126);
    let run = with(&[IMAGE, "no-such-program"]).code(127);
    assert!(run.stderr.contains("no-such-program"), "{}", run.stderr);
    assert_eq!(store.container_ids(), Vec::<String>::new());
}

#[test]
fn a_detached_container_lives_from_run_to_rm() {
    let store = store();
    let id = detached(&store, &["--name", "web"], UNTIL_TERM);
    assert_eq!(id.len(), 64);
    await_ready(&store, "web");
    let format = "{{.ID}} {{.Image}} {{.State}} {{.Names}}";
    let row = store.carrack(["ps", "--format", format]).line();
    assert_eq!(row, format!("{} {IMAGE} running web", &id[..12]));
    store.carrack(["rm", "web"]).code(1);
    assert!(!cgroups(&id).is_empty());

    store.carrack(["stop", "web"]).success();
    assert_eq!(store.carrack(["wait", "web"]).line(), "7");
    assert_eq!(store.carrack(["ps", "--quiet"]).line(), "");
    let status = store.carrack(["ps", "--all", "--format", "{{.Status}}"]).line();
    assert!(status.starts_with("Exited (7)"), "{status}");

    store.carrack(["start", &id[..12]]).success();
    store.carrack(["kill", "web"]).success();
    assert_eq!(store.carrack(["wait", "web"]).line(), "137");
    assert_eq!(inspect(&store, "web", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    store.carrack(["kill", "web"]).code(1);
    store.carrack(["rm", "web"]).success();
    assert_no_container_is_left(&store, &id);
}

#[test]
fn a_signal_reaches_the_first_process() {
    let store = store();
    detached(&store, &["--name", "one"], "trap 'exit 9' HUP; echo ready; sleep 1000 & wait");
    await_ready(&store, "one");
    store.carrack(["kill", "--signal", "HUP", "one"]).success();
    assert_eq!(store.carrack(["wait", "one"]).line(), "9");
    store.carrack(["kill", "--signal", "NOPE", "one"]).code(1);
}

#[test]
fn a_container_that_ignores_the_stop_signal_is_killed() {
    let store = store();
    detached(&store, &["--name", "one"], "trap '' TERM; echo ready; while :; do sleep 1000; done");
    await_ready(&store, "one");
    store.carrack(["stop", "--time", "0", "one"]).success();
    assert_eq!(inspect(&store, "one", "{{.State.ExitCode}}"), "137");
}

#[test]
fn create_then_start_with_its_output() {
    let store = store();
    let create =
        ["create", "--name", "one", "--network", "none", IMAGE, "sh", "-c", "echo hi >>/f; cat /f; exit 4"];
    store.carrack(create).success();
    assert_eq!(inspect(&store, "one", "{{.State.Status}}"), "created");
    assert_eq!(store.carrack(["start", "--attach", "one"]).code(4).stdout, "hi\n");
    assert_eq!(store.carrack(["start", "--attach", "one"]).code(4).stdout, "hi\nhi\n", "its files stay");
}

#[test]
fn a_container_with_rm_leaves_nothing() {
    let store = store();
    let id = detached(&store, &["--rm"], UNTIL_TERM);
    await_ready(&store, &id);
    store.carrack(["stop", &id]).success();
    crate::eventually("it is removed", || store.container_ids().is_empty());
    run(&store, &[], "exit 5").code(5);
    assert_no_container_is_left(&store, &id);
}

#[test]
fn a_name_is_taken_once() {
    let store = store();
    let create = ["create", "--name", "one", "--network", "none", IMAGE];
    let id = store.carrack(create).line();
    let refused = store.carrack(create).code(125);
    assert!(refused.stderr.contains("one"), "{}", refused.stderr);
    assert_eq!(store.container_ids(), [id.as_str()], "nothing is left of the second");
    store.carrack(["rm", "one"]).success();
    store.carrack(create).success();
    store.carrack(["create", "--name", "../x", "--network", "none", IMAGE]).code(125);
}

#[test]
fn logs_keep_streams_and_lines() {
    let store = store();
    detached(&store, &["--name", "one"], "for i in 1 2 3; do echo $i; done; echo err >&2");
    let logs = store.carrack(["logs", "--follow", "one"]).success();
    assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("1\n2\n3\n", "err\n"));
    store.carrack(["wait", "one"]).success();
    let last = store.carrack(["logs", "--tail", "2", "one"]).success();
    assert_eq!((last.stdout.as_str(), last.stderr.as_str()), ("3\n", "err\n"));
    let timed = store.carrack(["logs", "--timestamps", "--tail", "1", "one"]).success().stderr;
    assert!(timed.starts_with("20") && timed.ends_with("Z err\n"), "{timed}");
    store.carrack(["logs", "absent"]).code(1);
}

#[test]
fn exec_runs_one_more_program() {
    let store = store();
    detached(&store, &["--name", "one", "--env", "A=1"], UNTIL_TERM);
    let exec = |words: &[&str]| store.carrack([&["exec"], words].concat());
    exec(&["one", "sh", "-c", "exit 6"]).code(6);
    exec(&["one", "no-such-program"]).code(127);
    exec(&["one", "/etc/passwd"]).code(126);
    let user = exec(&["--user", "nobody", "one", "sh", "-c", "id -u; grep CapEff /proc/self/status"]).line();
    assert_eq!(user, "65534\nCapEff:\t0000000000000000");
    let script = "echo $A $B $PWD $(tr '\\0' ' ' </proc/1/cmdline)";
    let seen = exec(&["--env", "B=2", "--workdir", "/tmp", "one", "sh", "-c", script]).line();
    assert_eq!(seen, format!("1 2 /tmp sh -c {UNTIL_TERM}"));
    let mut command = store.command();
    let (code, output, _) = with_input(command.args(["exec", "-i", "one", "cat"]), b"piped\n");
    assert_eq!((code, output.as_str()), (0, "piped\n"));
    store.carrack(["stop", "--time", "0", "one"]).success();
    let refused = exec(&["one", "true"]);
    assert_ne!(refused.code, 0, "{}", refused.stdout);
}

#[test]
fn wait_blocks_until_the_end() {
    let store = store();
    detached(&store, &["--name", "one"], UNTIL_TERM);
    await_ready(&store, "one");
    let wait = store.command().args(["wait", "one"]).stdout(Stdio::piped()).spawn().unwrap();
    store.carrack(["stop", "one"]).success();
    let output = wait.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "7\n");
}

#[test]
fn several_commands_work_on_one_store() {
    let store = &store();
    let codes: Vec<i32> = thread::scope(|scope| {
        let runs: Vec<_> =
            (0..6).map(|n| scope.spawn(move || run(store, &[], &format!("exit {n}")).code)).collect();
        let names = ["create", "--name", "same", "--network", "none", IMAGE];
        let creates: Vec<_> = (0..4).map(|_| scope.spawn(move || store.carrack(names).code)).collect();
        let list = scope.spawn(|| (0..5).for_each(|_| drop(store.carrack(["ps", "--all"]).success())));
        let winners =
            creates.into_iter().map(|create| create.join().unwrap()).filter(|code| *code == 0).count();
        assert_eq!(winners, 1);
        list.join().unwrap();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(codes, [0, 1, 2, 3, 4, 5]);
    let id = inspect(store, "same", "{{.Id}}");
    store.carrack(["rm", "same"]).success();
    assert_no_container_is_left(store, &id);
}

#[test]
fn a_program_that_runs_too_long_is_killed() {
    let store = store();
    let begin = std::time::Instant::now();
    run(&store, &["--timeout", "1"], "trap '' TERM; sleep 1000").code(137);
    assert!(begin.elapsed().as_secs() < 30 && begin.elapsed().as_millis() >= 1000, "{:?}", begin.elapsed());
    assert_eq!(run(&store, &["--timeout", "1000"], "echo done").line(), "done");
    // Each start has the time anew, and what has ended in time is left alone.
    let id = detached(&store, &["--timeout", "1", "--restart", "on-failure:1"], "sleep 1000");
    assert_eq!(store.carrack(["wait", &id]).line(), "137");
    assert_eq!(inspect(&store, &id, "{{.Config.Timeout}} {{.RestartCount}}"), "1 1");
}

#[test]
fn a_container_that_is_removed_at_its_end_is_restarted() {
    let store = store();
    detached(&store, &["--name", "one", "--rm"], "trap 'exit 0' TERM; echo ready; sleep 1000 & wait");
    await_ready(&store, "one");
    let pid = || inspect(&store, "one", "{{.State.Pid}}");
    let first = pid();
    store.carrack(["restart", "--time", "5", "one"]).success();
    assert!(pid() != first && pid() != "0");
    store.carrack(["stop", "--time", "0", "one"]).success();
    assert_eq!(store.carrack(["ps", "--all", "--quiet"]).line(), "");
}

#[test]
fn who_never_ran_is_not_waited_for() {
    let store = store();
    store.carrack(["create", "--name", "one", "--network", "none", IMAGE, "sh", "-c", "exit 3"]).success();
    assert_eq!(store.carrack(["wait", "one"]).line(), "0");
    assert_eq!(store.carrack(["wait", "--condition", "not-running", "one"]).line(), "0");
    let waiting =
        store.command().args(["wait", "--condition", "next-exit", "one"]).stdout(Stdio::piped()).spawn();
    store.carrack(["start", "one"]).success();
    assert_eq!(waiting.unwrap().wait_with_output().unwrap().stdout, b"3\n");
    assert_eq!(store.carrack(["wait", "one"]).line(), "3");
    store.carrack(["rm", "one"]).success();
}

#[test]
fn what_cannot_be_started_is_not_created() {
    let store = store();
    for (flags, reason) in [
        (["--stop-signal", "bogus"], "bogus"),
        (["--cap-add", "BOGUS"], "BOGUS"),
        (["--security-opt", "bogus"], "bogus"),
        (["--ulimit", "bogus=1"], "bogus"),
        (["--ulimit", "nofile=300:200"], "above the hard one"),
        (["-v", "a/b:/x"], "begins with / or ."),
    ] {
        let words = [&["create", "--network", "none"], &flags[..], &[IMAGE, "true"]].concat();
        let run = store.carrack(words);
        assert!(run.code != 0 && run.stderr.contains(reason), "{flags:?}: {run:?}");
    }
    assert_eq!(store.carrack(["ps", "--all", "--quiet"]).line(), "");
}

#[test]
fn values_may_begin_with_a_dash() {
    let store = store();
    let flags = [
        "create",
        "--name",
        "one",
        "--network",
        "none",
        "--label",
        "-x=1",
        "-e",
        "-A=b",
        "--health-cmd",
        "-f",
    ];
    store.carrack(flags.into_iter().chain(["--stop-timeout", "5", IMAGE, "true"])).success();
    assert_eq!(inspect(&store, "one", r#"{{index .Config.Labels "-x"}}"#), "1");
    assert!(inspect(&store, "one", "{{.Config.Env}}").contains("-A=b"));
    store.carrack(["rm", "one"]).success();
}

#[test]
fn a_time_limit_is_kept_to() {
    let store = store();
    let seconds = || {
        let started = std::time::Instant::now();
        let flags = ["run", "--rm", "--network", "none", "--timeout", "2", IMAGE, "sleep", "1000"];
        store.carrack(flags).code(137);
        started.elapsed().as_secs_f64()
    };
    // A machine under load is late now and then; a monitor that counted from its rest on was always, by a second.
    assert!((0..10).any(|_| (2.0..2.8).contains(&seconds())));
}
