//! How a user takes part in a run: streams, keys, signals, files that name the container, what replaces what.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use carrack_testkit::Run;
use rustix::process::{Pid, Signal, kill_process};

use crate::kit::{CARRACK, IMAGE, LIMIT, host, run, store, with_input};
use crate::{UNTIL_TERM, await_ready, detached, eventually, inspect};

#[test]
fn only_the_streams_that_are_named_are_connected() {
    let store = store();
    let script = "echo out; echo err >&2";
    let only = run(&store, &["-a", "stderr"], script).success();
    assert_eq!((only.stdout.as_str(), only.stderr.as_str()), ("", "err\n"));
    let both = run(&store, &["-a", "stdout", "-a", "STDERR"], script).success();
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
    let mut command = store.command();
    command.args(["run", "--rm", "--network", "none", "-i", "-a", "stdin", IMAGE, "cat"]);
    let (code, output, _) = with_input(&mut command, b"in\n");
    assert_eq!((code, output.trim_end().len()), (0, 64), "the ID is all that is seen: {output}");
    run(&store, &["-a", "stdout", "-d"], "true").code(125);
    run(&store, &["-a", "stdlog"], "true").code(125);
}

#[test]
fn the_detach_keys_leave_the_container_running() {
    let store = store();
    let inner = store.command();
    let mut words = vec![inner.get_program().to_string_lossy().into_owned()];
    words.extend(inner.get_args().map(|word| word.to_string_lossy().into_owned()));
    let line = format!(
        "{} run -it --name one --network none --stop-timeout 0 --detach-keys ctrl-x,x {IMAGE}",
        words.join(" ")
    );
    let mut session = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("it runs", || store.carrack(["ps", "-q", "--filter", "name=^one$"]).stdout.len() > 1);
    let mut keys = session.stdin.take().unwrap();
    eventually("the session has ended", || {
        let _ = keys.write_all(b"\x18x");
        session.try_wait().unwrap().is_some()
    });
    assert!(session.wait().unwrap().success());
    assert_eq!(inspect(&store, "one", "{{.State.Status}} {{.Config.Tty}}"), "running true");
    store.carrack(["rm", "-f", "one"]).success();
}

#[test]
fn signals_reach_the_container_unless_they_are_kept() {
    let store = store();
    let start = |name: &str, proxy: &str| {
        let mut command = store.command();
        command.args(["run", "--name", name, "--network", "none", "--stop-timeout", "0", proxy, IMAGE]);
        let child = command.args(["sh", "-c", UNTIL_TERM]).stdout(Stdio::null()).spawn().unwrap();
        eventually("it is ready", || store.carrack(["logs", name]).stdout.contains("ready"));
        child
    };
    let signal = |child: &std::process::Child| {
        kill_process(Pid::from_child(child), Signal::TERM).unwrap();
    };
    let mut passed = start("passed", "--sig-proxy=true");
    signal(&passed);
    assert_eq!(passed.wait().unwrap().code(), Some(7));
    let mut kept = start("kept", "--sig-proxy=false");
    signal(&kept);
    assert_eq!(kept.wait().unwrap().code(), None, "the signal ends the command alone");
    assert_eq!(inspect(&store, "kept", "{{.State.Status}}"), "running");
    store.carrack(["rm", "-f", "kept"]).success();
}

#[test]
fn a_signal_that_comes_as_soon_as_the_program_runs_reaches_it() {
    let store = store();
    let shared = store.path().join("shared");
    fs::create_dir(&shared).unwrap();
    for round in 0..20 {
        let mark = shared.join(round.to_string());
        let mut command = store.command();
        command.args([
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            &format!("{}:/shared", shared.display()),
            IMAGE,
        ]);
        command.args([
            "sh",
            "-c",
            &format!("trap 'exit 7' TERM; : > /shared/{round}; while :; do sleep 0.1; done"),
        ]);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        // Not a moment is lost here.
        while !mark.exists() {
            assert_eq!(child.try_wait().unwrap(), None, "it has ended before");
        }
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7), "round {round}");
    }
}

#[test]
fn a_signal_to_exec_ends_exec_alone() {
    let store = store();
    detached(&store, &["--name", "one"], UNTIL_TERM);
    await_ready(&store, "one");
    let mut exec = store.command();
    exec.args(["exec", "one", "sh", "-c", "echo there; sleep 1000"]).stdout(Stdio::piped());
    let mut exec = exec.spawn().unwrap();
    let mut there = [0; 5];
    exec.stdout.as_mut().unwrap().read_exact(&mut there).unwrap();
    kill_process(Pid::from_child(&exec), Signal::TERM).unwrap();
    assert_eq!(exec.wait().unwrap().code(), None, "the signal ends the command");
    assert!(store.carrack(["top", "one"]).success().stdout.contains("sleep 1000"));
    assert_eq!(inspect(&store, "one", "{{.State.Status}}"), "running");
    store.carrack(["rm", "-f", "one"]).success();
}

#[test]
fn files_tell_which_container_it_is() {
    let store = store();
    let file = |name: &str| store.path().join(name).display().to_string();
    let (id_file, pid_file, monitor_file) = (file("id"), file("pid"), file("monitor"));
    let flags =
        ["--cidfile", &id_file, "--pidfile", &pid_file, "--conmon-pidfile", &monitor_file, "--name", "one"];
    let id = detached(&store, &flags, UNTIL_TERM);
    assert_eq!(fs::read_to_string(&id_file).unwrap(), id);
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), inspect(&store, "one", "{{.State.Pid}}"));
    let monitor = fs::read_to_string(&monitor_file).unwrap();
    assert!(crate::processes_with(&id[..12]).contains(&monitor.parse().unwrap()));
    let refused = run(&store, &["--cidfile", &id_file], "true").code(125);
    assert!(refused.stderr.contains("exists already"), "{}", refused.stderr);
    // A container that is not made leaves no file.
    let other = file("other");
    store.carrack(["create", "--cidfile", &other, "--name", "one", IMAGE]).code(125);
    assert!(!fs::exists(&other).unwrap());
    store.carrack(["kill", "--cidfile", &id_file]).success();
    store.carrack(["rm", "--force", "--cidfile", &id_file]).success();
    assert_eq!(store.container_ids(), Vec::<String>::new());
}

#[test]
fn one_of_two_commands_gets_the_file() {
    let store = &store();
    let file = &store.path().join("id").display().to_string();
    let codes: Vec<i32> = std::thread::scope(|scope| {
        let create = || store.carrack(["create", "--cidfile", file, "--network", "none", IMAGE]).code;
        let creates: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
        creates.into_iter().map(|create| create.join().unwrap()).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert_eq!(store.container_ids(), [fs::read_to_string(file).unwrap()]);
}

#[test]
fn a_name_may_be_taken_from_another() {
    let store = store();
    let first = detached(&store, &["--name", "one"], UNTIL_TERM);
    let second = detached(&store, &["--name", "one", "--replace"], UNTIL_TERM);
    assert_eq!(store.container_ids(), [second.as_str()]);
    assert_ne!(first, second);
    detached(&store, &["--name", "two", "--replace"], "true");
    run(&store, &["--replace"], "true").code(125);
    store.carrack(["rm", "-f", "one"]).success();
}

#[test]
fn the_image_may_go_with_the_container() {
    let store = store();
    let with = |flags: &[&str]| {
        store.carrack(
            [&["run", "--network", "none", "--pull", "never"], flags, &[IMAGE, "sh", "-c", "exit 3"]]
                .concat(),
        )
    };
    store.carrack(["create", "--name", "user", IMAGE]).success();
    with(&["--rmi"]).code(3);
    store.carrack(["image", "exists", IMAGE]).success();
    store.carrack(["rm", "user"]).success();
    with(&["--rmi"]).code(3);
    store.carrack(["image", "exists", IMAGE]).code(1);
    assert_eq!(store.container_ids(), Vec::<String>::new());
}

#[test]
fn a_container_is_stopped_its_own_way() {
    let store = store();
    let script = "trap 'exit 9' USR1; trap 'exit 8' HUP; echo ready; while :; do sleep 0.05; done";
    let flags = ["--name", "one", "--stop-signal", "USR1", "--stop-timeout", "50"];
    detached(&store, &flags, script);
    await_ready(&store, "one");
    store.carrack(["stop", "one"]).success();
    assert_eq!(store.carrack(["wait", "one"]).line(), "9");
    let told = inspect(&store, "one", "{{.Config.StopSignal}} {{.Config.StopTimeout}}");
    assert_eq!(told, "USR1 50");
    store.carrack(["start", "one"]).success();
    eventually("it is ready again", || store.carrack(["logs", "one"]).stdout.matches("ready").count() == 2);
    store.carrack(["stop", "--signal", "HUP", "--time", "-1", "one"]).success();
    assert_eq!(store.carrack(["wait", "one"]).line(), "8");
}

#[test]
fn the_parts_of_a_platform_are_put_together() {
    let store = store();
    let run = |flags: &[&str]| {
        store.carrack(
            [&["run", "--rm", "--network", "none", "--pull", "never"], flags, &[IMAGE, "true"]].concat(),
        )
    };
    run(&["--arch", std::env::consts::ARCH]).success();
    run(&["--os", "linux"]).success();
    let other = run(&["--arch", "arm", "--variant", "v6"]).code(125);
    assert!(other.stderr.contains("arm"), "{}", other.stderr);
    run(&["--platform", "linux/amd64", "--arch", "amd64"]).code(125);
}

#[test]
fn descriptors_are_passed_on_under_their_numbers() {
    let store = store();
    let carrack = store.command();
    // `sh -c 'exec 3<in 4>out; SCRIPT'`, where `$@` is carrack with the folders of the store.
    let shell = |script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(carrack.get_program()).args(carrack.get_args());
        Run::of(shell.current_dir(store.path()).env("IMAGE", IMAGE), LIMIT)
    };
    fs::write(store.path().join("in"), "through 3").unwrap();
    let run = r#""$@" run --rm --network none"#;
    let copy = r#"$IMAGE sh -c 'cat <&3 >&4; ls /proc/self/fd | wc -l'"#;
    // Beside the three standard streams, the two, and the one of ls.
    assert_eq!(shell(&format!("exec 3<in 4>out; {run} --preserve-fds 2 {copy}")).line(), "6");
    assert_eq!(fs::read_to_string(store.path().join("out")).unwrap(), "through 3");
    let seven = shell(&format!("exec 7<in; {run} --preserve-fd 7 $IMAGE sh -c 'cat <&7; ls /proc/self/fd'"));
    assert_eq!(seven.line(), "through 30\n1\n2\n3\n7");
    // Without the flag nothing is passed on.
    assert_eq!(shell(&format!("exec 3<in; {run} $IMAGE ls /proc/self/fd")).line(), "0\n1\n2\n3");
    // The reader sees the end when the program has ended, whatever stays with the container.
    let detached = r#""$@" run -d --name one --network none --preserve-fds 1 $IMAGE sh -c 'echo told >&3; exec 3>&-; sleep 1000'"#;
    assert!(shell(&format!("{detached} 3>&1 >/dev/null | cat")).line() == "told");
    let exec = shell(r#"exec 3<in 4>out; "$@" exec --preserve-fds 2 one sh -c 'cat <&3 >&4; echo done'"#);
    assert_eq!(exec.line(), "done");
    store.carrack(["rm", "-f", "one"]).success();
    let closed = shell(&format!("exec 3<&-; {run} --preserve-fds 1 $IMAGE true")).code(125);
    assert!(closed.stderr.contains('3'), "{}", closed.stderr);
    shell(&format!("exec 3<in; {run} --preserve-fd 2 $IMAGE true")).code(125);
    let again = "run -d --network none --restart always --preserve-fds 1 $IMAGE true";
    assert!(shell(&format!("exec 3<in; \"$@\" {again}")).code(125).stderr.contains("--restart"));
}

#[test]
fn a_terminal_that_is_none_is_told_before_anything_is_started() {
    let store = store();
    let (code, _, error) = with_input(
        store.command().args(["run", "--name", "one", "-it", "--network", "none", IMAGE, "cat"]),
        b"x",
    );
    assert!(code == 125 && error.contains("not a terminal"), "{code} {error}");
    assert_eq!(store.carrack(["ps", "--all", "--quiet"]).line(), "");
    detached(&store, &["--name", "one", "-t"], UNTIL_TERM);
    let (code, _, error) = with_input(store.command().args(["exec", "-it", "one", "touch", "/made"]), b"x");
    assert!(code != 0 && error.contains("not a terminal"), "{code} {error}");
    store.carrack(["exec", "one", "test", "-e", "/made"]).code(1);
    store.carrack(["stop", "--time", "0", "one"]).success();
    let (code, _, _) = with_input(store.command().args(["start", "-ai", "one"]), b"x");
    assert_eq!((code != 0, inspect(&store, "one", "{{.State.Status}}").as_str()), (true, "exited"));
    store.carrack(["rm", "one"]).success();
}

#[test]
fn what_runs_detached_keeps_nothing_of_its_caller() {
    let store = store();
    detached(&store, &["--name", "one"], UNTIL_TERM);
    let started = std::time::Instant::now();
    // Both pipes are read to their ends.
    store.carrack(["exec", "-d", "one", "sleep", "1000"]).success();
    assert!(started.elapsed().as_secs() < 30);
    store.carrack(["rm", "-f", "one"]).success();
}

#[test]
fn input_ends_at_a_container_that_was_created_for_it() {
    let store = store();
    store.carrack(["create", "-i", "--name", "one", "--network", "none", IMAGE, "cat"]).success();
    let (code, output, _) = with_input(store.command().args(["start", "-ai", "one"]), b"ahoy");
    assert_eq!((code, output.as_str()), (0, "ahoy"));
    store.carrack(["rm", "one"]).success();
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let store = store();
    store.carrack(["run", "--name", "one", "--network", "none", IMAGE, "seq", "100000"]).success();
    for words in ["logs one", "start --attach one"] {
        let (root, runroot) = (store.root(), store.runroot());
        let carrack = format!("{CARRACK} --root {} --runroot {} {words}", root.display(), runroot.display());
        let run = host("sh", ["-c", &format!("({carrack}; echo $? >&2) | head -n 1")]);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("1\n", "141\n"), "{words}");
    }
    store.carrack(["rm", "--force", "one"]).success();
}
