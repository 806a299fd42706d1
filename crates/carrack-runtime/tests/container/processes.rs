//! Exit codes, streams, terminals, signals, further processes.

use std::io::Write;
use std::process::Stdio;

use oci_spec::runtime::{BoxBuilder, Process};

use crate::fixture::Container;
use crate::{stderr, stdout};

#[test]
fn exit_codes_are_dockers() {
    let table: [(&[&str], i32); 7] = [
        (&["true"], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -9 $$; exit 3"], 3), // process 1 does not die of its own signals
        (&["no-such-program"], 127),
        (&["/no/such/program"], 127),
        (&["/etc"], 126),
        (&["/etc/text"], 126),
    ];
    for (arguments, code) in table {
        let container = Container::new(arguments);
        std::fs::write(container.path("/etc/text"), "text").unwrap();
        let output = container.run();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_killed_program_ends_with_128_and_the_signal() {
    let mut container = Container::new(&["sleep", "30"]);
    container.start(&[]);
    container.cgroup().kill().unwrap();
    assert_eq!(container.wait().status.code(), Some(137));
}

#[test]
fn standard_streams_are_the_callers_and_nothing_else_is_open() {
    let container = Container::shell("cat; echo error >&2; ls /proc/self/fd | wc -l");
    let mut command = container.command(&[]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"input\n").unwrap();
    let output = child.wait_with_output().unwrap();
    // The fourth is the folder that ls reads.
    assert_eq!((stdout(&output), stderr(&output)), ("input\n4".into(), "error\n".into()));
}

#[test]
fn descriptors_of_the_starter_do_not_leak() {
    let container = Container::new(&["ls", "-l", "/proc/self/fd"]);
    let leaked = std::fs::File::open("/").unwrap();
    let leaked = rustix::io::fcntl_dupfd_cloexec(&leaked, 100).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let text = container.stdout();
    assert!(!text.lines().any(|line| line.ends_with("-> /")), "{text}");
    drop(leaked);
}

#[test]
fn the_environment_and_working_directory_are_those_of_the_spec() {
    let mut container = Container::shell("echo $A; pwd; umask");
    container.process().set_env(Some(vec!["PATH=/bin".into(), "A=b c".into()]));
    container.process().set_cwd("/made/for/it".into());
    assert_eq!(container.stdout(), "b c\n/made/for/it\n0022");
}

#[test]
fn signals_are_at_their_defaults() {
    let container = Container::new(&["grep", "^Sig[BIC]", "/proc/self/status"]);
    let zero = "0000000000000000";
    assert_eq!(container.stdout(), format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\nSigCgt:\t{zero}"));
}

#[test]
fn a_terminal_is_of_the_containers_devpts() {
    let mut container = Container::shell(
        "readlink /proc/self/fd/0; stty size; echo to > /dev/tty; ls -l /dev/console | cut -c1",
    );
    std::os::unix::fs::symlink("busybox", container.path("/bin/cut")).unwrap();
    let size = BoxBuilder::default().height(24u64).width(91u64).build().unwrap();
    container.process().set_console_size(Some(size)).set_terminal(Some(true));
    let output = container.run_with(&["--console"]);
    assert_eq!(stdout(&output).replace('\r', ""), "/dev/pts/0\n24 91\nto\nc", "{}", stderr(&output));
}

#[test]
fn a_reaper_is_process_1_and_reports_the_program() {
    let container = Container::shell("echo $$; exit 9");
    let output = container.run_with(&["--init"]);
    assert_eq!((stdout(&output), output.status.code()), ("2".into(), Some(9)), "{}", stderr(&output));
    let container = Container::new(&["no-such-program"]);
    assert_eq!(container.run_with(&["--init"]).status.code(), Some(127));
}

#[test]
fn a_reaper_takes_orphans_and_forwards_signals() {
    let mut container = Container::shell(
        "trap 'echo term; exit 5' TERM
         (sleep 0.1 & ) ; sleep 0.3; grep -c '^State:.Z' /proc/[0-9]*/status | grep -c ':1'
         while true; do sleep 0.05; done",
    );
    let pid = container.start(&["--init"]);
    std::thread::sleep(std::time::Duration::from_millis(700));
    let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = container.wait();
    assert_eq!((stdout(&output), output.status.code()), ("0\nterm".into(), Some(5)), "{}", stderr(&output));
}

fn run_beside(process: impl Fn(&Container) -> Process, options: &[&str]) -> std::process::Output {
    let mut container = Container::new(&["sleep", "30"]);
    container.spec.set_hostname(Some("ship".into()));
    let pid = container.start(&[]);
    container.exec(&pid, &process(&container), options)
}

#[test]
fn a_further_process_is_in_all_namespaces_and_as_restricted() {
    let script = "hostname; readlink /proc/self/ns/pid; readlink /proc/1/ns/pid; grep -E '^(CapBnd|Seccomp):' /proc/self/status
                  cat /proc/self/cgroup | grep -c ':/$'; ls /proc/self/fd | wc -l; cat /proc/1/cmdline | head -c 5";
    let output = run_beside(|container| container.other_process(&["sh", "-c", script]), &[]);
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "ship", "{text} {}", stderr(&output));
    assert_eq!(lines[1], lines[2]);
    assert_eq!(lines[3..5], ["CapBnd:\t00000000800405fb", "Seccomp:\t2"]);
    assert_eq!(lines[6..], ["4", "sleep"]);
}

#[test]
fn a_further_process_has_its_own_exit_code() {
    for (arguments, code) in
        [(["sh", "-c", "exit 4"], 4), (["no-such", "", ""], 127), (["/etc", "", ""], 126)]
    {
        let output = run_beside(|container| container.other_process(&arguments), &[]);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    }
}

#[test]
fn a_further_process_gets_a_terminal() {
    let output =
        run_beside(|container| container.other_process(&["readlink", "/proc/self/fd/0"]), &["--console"]);
    assert_eq!(stdout(&output), "/dev/pts/0", "{}", stderr(&output));
}
