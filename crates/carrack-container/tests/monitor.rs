//! The monitor and its clients, with shell processes in the place of containers.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use carrack_container::attach::{
    Client, DetachKeys, Ended, Event, Listener, Peer, Relay, Request, Signals, Streams, pair,
};
use carrack_container::log::{LogFormat, LogSink, LogWriter, Rotation, Selection, Stream, read};
use carrack_container::monitor::{self, DRAIN_BYTES, Finished, Monitor};
use carrack_container::{Exit, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use tempfile::TempDir;

/// A child, killed when the test ends; its own children end soon after that, or lose their pipe.
struct Shell {
    pidfd: OwnedFd,
    stdio: Option<monitor::Stdio>,
}

impl Shell {
    #[expect(clippy::zombie_processes, reason = "the monitor waits for it")]
    fn spawn(script: &str) -> Self {
        let mut command = shell(script);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdio = monitor::Stdio::Pipes {
            stdin: child.stdin.take().map(Into::into),
            stdout: child.stdout.take().unwrap().into(),
            stderr: child.stderr.take().unwrap().into(),
        };
        Self::new(child.id(), stdio)
    }

    #[expect(clippy::zombie_processes, reason = "the monitor waits for it")]
    fn spawn_on_console(script: &str) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        let copy = || Stdio::from(slave.try_clone().unwrap());
        let child = shell(script).stdin(copy()).stdout(copy()).stderr(copy()).spawn().unwrap();
        Self::new(child.id(), monitor::Stdio::Console(master))
    }

    fn new(pid: u32, stdio: monitor::Stdio) -> Self {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        Self { pidfd: pidfd_open(pid, PidfdFlags::empty()).unwrap(), stdio: Some(stdio) }
    }

    fn is_running(&self) -> bool {
        pidfd_send_signal(&self.pidfd, Signal::CONT).is_ok()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

/// A monitor in a thread, with a log and a listener.
struct Run {
    folder: TempDir,
    shell: Shell,
    thread: JoinHandle<Result<Finished>>,
}

#[derive(Default)]
struct Options {
    foreground: Option<OwnedFd>,
    stdin_once: bool,
    rotation: Rotation,
}

fn run(mut shell: Shell, options: Options) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let monitor = Monitor {
        init: shell.pidfd.try_clone().unwrap(),
        stdio: shell.stdio.take().unwrap(),
        stdin_once: options.stdin_once,
        log: Some(LogSink::File(
            LogWriter::open(&folder.path().join("log"), options.rotation, &LogFormat::default()).unwrap(),
        )),
        chore: None,
        time_limit: None,
        listener: Some(Listener::bind(folder.path()).unwrap()),
        foreground: options.foreground.map(|socket| Peer::from_inherited(socket).unwrap()),
        ends_with_client: false,
    };
    Run { folder, shell, thread: std::thread::spawn(|| monitor.run()) }
}

fn run_with_client(script: &str, stdin_once: bool) -> (Run, Client) {
    let (client, socket) = pair().unwrap();
    let run =
        run(Shell::spawn(script), Options { foreground: Some(socket), stdin_once, ..Options::default() });
    (run, client)
}

impl Run {
    fn attach(&self) -> Client {
        Client::connect(self.folder.path(), Streams::ALL).unwrap().unwrap()
    }

    fn finish(self) -> (Exit, TempDir) {
        let finished = self.thread.join().unwrap().unwrap();
        assert!(finished.log_error.is_none());
        let exit = finished.exit;
        finished.announce();
        (exit, self.folder)
    }
}

fn log_of(folder: &TempDir) -> Vec<(Stream, String)> {
    let mut entries = Vec::new();
    read(&folder.path().join("log"), &Selection::default(), None, &mut |entry| {
        entries.push((entry.stream, entry.log.clone().into_owned()));
        Ok(())
    })
    .unwrap();
    entries
}

/// Everything the monitor sends, and how it ended.
fn receive_all(client: &Client) -> (Vec<u8>, Vec<u8>, Option<i32>) {
    let (mut out, mut err, mut packet) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match client.receive(&mut packet).unwrap() {
            Some(Event::Stdout(data)) => out.extend_from_slice(data),
            Some(Event::Stderr(data)) => err.extend_from_slice(data),
            Some(Event::Exited { code }) => return (out, err, Some(code)),
            Some(other) => panic!("unexpected {other:?}"),
            None => return (out, err, None),
        }
    }
}

fn kib_of_this_process(field: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn output_is_logged_by_stream_and_the_exit_code_told() {
    let (exit, folder) = run(
        Shell::spawn("echo out; sleep 0.05; echo err >&2; sleep 0.05; printf rest; exit 7"),
        Options::default(),
    )
    .finish();
    assert_eq!(exit, Exit::Code(7));
    let expected = [(Stream::Stdout, "out\n"), (Stream::Stderr, "err\n"), (Stream::Stdout, "rest")];
    let log = log_of(&folder);
    assert_eq!(log.iter().map(|(stream, text)| (*stream, text.as_str())).collect::<Vec<_>>(), expected);
}

#[test]
fn death_by_a_signal_is_told() {
    let (exit, _) = run(Shell::spawn("kill -KILL $$"), Options::default()).finish();
    assert_eq!((exit, exit.code()), (Exit::Signal(9), 137));
}

#[test]
fn the_foreground_gets_everything() {
    let (run, client) = run_with_client("echo out; echo err >&2; exit 3", false);
    let reader = std::thread::spawn(move || receive_all(&client));
    run.finish();
    assert_eq!(reader.join().unwrap(), (b"out\n".to_vec(), b"err\n".to_vec(), Some(3)));
}

#[test]
fn a_session_moves_megabytes_both_ways_and_ends_the_input() {
    let (run, client) = run_with_client("cat; exit 4", true);
    let input: Vec<u8> = (0..3_000_000u32).flat_map(|number| number.to_le_bytes()).collect();
    let (stdin, mut feed) = std::io::pipe().unwrap();
    let (mut taken, stdout) = std::io::pipe().unwrap();
    let expected = input.clone();
    let feeder = std::thread::spawn(move || feed.write_all(&input).unwrap());
    let taker = std::thread::spawn(move || {
        let mut output = Vec::new();
        taken.read_to_end(&mut output).unwrap();
        output
    });
    let session = std::thread::spawn(move || {
        let relay = Relay {
            stdin: Some(stdin.as_fd()),
            stdout: Some(stdout.as_fd()),
            stderr: None,
            detach_keys: None,
            signals: None,
        };
        client.relay(relay).unwrap()
    });
    run.finish();
    assert_eq!(session.join().unwrap(), Ended::Exited { code: 4 });
    feeder.join().unwrap();
    assert!(taker.join().unwrap() == expected, "the same bytes come back");
}

#[test]
fn the_keys_detach_and_the_container_goes_on() {
    let (run, client) = run_with_client("cat; echo ended", true);
    let (stdin, mut feed) = std::io::pipe().unwrap();
    feed.write_all(b"typed\x10\x11").unwrap();
    let keys = DetachKeys::default();
    let relay = Relay {
        stdin: Some(stdin.as_fd()),
        stdout: None,
        stderr: None,
        detach_keys: Some(&keys),
        signals: None,
    };
    assert_eq!(client.relay(relay).unwrap(), Ended::Detached);
    drop(client);
    let second = run.attach();
    std::thread::sleep(Duration::from_millis(100));
    assert!(run.shell.is_running());
    assert!(second.send(&Request::Stdin(b" again\n")));
    assert!(second.send(&Request::StdinEnd));
    let reader = std::thread::spawn(move || receive_all(&second));
    let (_, folder) = run.finish();
    assert_eq!(reader.join().unwrap().2, Some(0));
    assert_eq!(log_of(&folder).into_iter().map(|(_, text)| text).collect::<String>(), "typed again\nended\n");
}

#[test]
fn a_lost_client_ends_the_input_only_where_it_is_meant_to() {
    let (once, client) = run_with_client("cat; echo ended", true);
    drop(client);
    assert_eq!(once.finish().0, Exit::Code(0));
    let (kept, client) = run_with_client("cat; echo ended", false);
    drop(client);
    std::thread::sleep(Duration::from_millis(100));
    assert!(kept.shell.is_running());
}

#[test]
fn a_flood_passes_in_constant_memory() {
    let rotation = Rotation { max_bytes: 1 << 20, max_files: 2 };
    let before = kib_of_this_process("VmHWM");
    let flood =
        "yes 0123456789012345678901234567890123456789 | head -c 100000000; head -c 30000000 /dev/zero";
    let (exit, folder) = run(Shell::spawn(flood), Options { rotation, ..Options::default() }).finish();
    assert_eq!(exit, Exit::Code(0));
    let grown = kib_of_this_process("VmHWM") - before;
    assert!(grown < 2_048, "grew by {grown} KiB");
    assert!(fs::metadata(folder.path().join("log")).unwrap().len() <= 1 << 20);
}

#[test]
fn a_slow_foreground_holds_the_program_back_and_loses_nothing() {
    const BYTES: usize = 20_000_000;
    let before = kib_of_this_process("VmHWM");
    let (run, client) = run_with_client(&format!("yes 01234567 | head -c {BYTES}"), false);
    std::thread::sleep(Duration::from_millis(300));
    assert!(run.shell.is_running(), "it waits for its reader");
    assert!(kib_of_this_process("VmHWM") - before < 2_048);
    let reader = std::thread::spawn(move || receive_all(&client));
    let (_, folder) = run.finish();
    let (out, _, code) = reader.join().unwrap();
    assert_eq!((out.len(), code), (BYTES, Some(0)));
    assert!(out.chunks(9).all(|line| line.len() < 9 || line == b"01234567\n"));
    drop(folder);
}

#[test]
fn a_foreground_that_reads_nothing_does_not_hold_up_the_end() {
    let (run, client) = run_with_client("head -c 250000 /dev/zero | tr '\\0' x; exit 5", false);
    // More than the socket holds, less than the socket and the pipe: the program can end.
    let started = Instant::now();
    let finished = run.thread.join().unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(finished.exit, Exit::Code(5));
    let announcer = std::thread::spawn(|| finished.announce());
    let (out, _, code) = receive_all(&client);
    assert_eq!((out.len(), code), (250_000, Some(5)));
    announcer.join().unwrap();
}

#[test]
fn a_client_killed_in_the_middle_harms_nobody() {
    let (run, client) = run_with_client("yes 0123456789 | head -c 2000000; exit 6", false);
    let mut packet = Vec::new();
    client.receive(&mut packet).unwrap();
    drop(client);
    let (exit, folder) = run.finish();
    assert_eq!(exit, Exit::Code(6));
    assert_eq!(log_of(&folder).iter().map(|(_, text)| text.len()).sum::<usize>(), 2_000_000);
}

#[test]
fn a_thousand_attaches_leave_nothing() {
    let run = run(Shell::spawn("cat"), Options { stdin_once: false, ..Options::default() });
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let round = || {
        let client = run.attach();
        client.send(&Request::Stdin(b"x\n"));
        let mut packet = Vec::new();
        assert!(matches!(client.receive(&mut packet), Ok(Some(Event::Stdout(_)))));
    };
    round();
    let (open, resident) = (descriptors(), kib_of_this_process("VmRSS"));
    (0..1_000).for_each(|_| round());
    eventually("all clients are forgotten", || descriptors() <= open);
    assert!(kib_of_this_process("VmRSS") < resident + 1_024);
    assert!(run.shell.is_running());
}

#[test]
fn too_many_clients_are_refused_and_room_is_made_again() {
    let run = run(Shell::spawn("cat"), Options::default());
    let mut clients: Vec<_> = (0..128).map(|_| run.attach()).collect();
    let refused = run.attach();
    let mut packet = Vec::new();
    assert!(matches!(refused.receive(&mut packet), Ok(Some(Event::Failed { code: 125, .. }))));
    clients.pop();
    eventually("there is room again", || {
        let client = run.attach();
        client.send(&Request::Stdin(b"x\n"));
        matches!(client.receive(&mut packet), Ok(Some(Event::Stdout(_))))
    });
}

#[test]
fn clients_that_make_no_sense_are_dropped() {
    let run = run(Shell::spawn("cat"), Options::default());
    for nonsense in [Request::Attach(Streams::ALL), Request::Attach(Streams::ALL)] {
        let client = run.attach();
        client.send(&nonsense);
        assert_eq!(receive_all(&client).2, None, "attached twice");
    }
    assert!(run.shell.is_running());
}

#[test]
fn streams_that_are_not_wanted_are_not_sent() {
    let run = run(Shell::spawn("read go; echo out; echo err >&2"), Options::default());
    let streams = Streams { stdin: false, stdout: false, stderr: true };
    let client = Client::connect(run.folder.path(), streams).unwrap().unwrap();
    let other = run.attach();
    other.send(&Request::Stdin(b"go\n"));
    let reader = std::thread::spawn(move || receive_all(&client));
    run.finish();
    assert_eq!(reader.join().unwrap(), (Vec::new(), b"err\n".to_vec(), Some(0)));
}

#[test]
fn a_late_client_that_reads_nothing_is_dropped() {
    let run = run(Shell::spawn("read go; yes 0123456789 | head -c 3000000"), Options::default());
    let client = run.attach();
    client.send(&Request::Stdin(b"go\n"));
    let started = Instant::now();
    assert_eq!(run.finish().0, Exit::Code(0));
    assert!(started.elapsed() < monitor::PATIENCE + Duration::from_secs(5));
}

#[test]
fn a_container_that_reads_nothing_can_still_be_watched() {
    let run = run(Shell::spawn("while sleep 0.05; do echo tick; done"), Options::default());
    let flooder = run.attach();
    let packet = [b'x'; 8_192];
    eventually("the input is full", || !flooder.send(&Request::Stdin(&packet)));
    let watcher = run.attach();
    let mut buffer = Vec::new();
    assert_eq!(watcher.receive(&mut buffer).unwrap(), Some(Event::Stdout(b"tick\n")));
    drop(flooder);
    assert_eq!(watcher.receive(&mut buffer).unwrap(), Some(Event::Stdout(b"tick\n")));
}

#[test]
fn a_process_that_keeps_the_pipe_does_not_keep_the_container() {
    let started = Instant::now();
    let (exit, _) = run(Shell::spawn("sleep 4 & echo done; exit 2"), Options::default()).finish();
    assert_eq!(exit, Exit::Code(2));
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_process_that_floods_the_pipe_after_the_end_is_cut_off() {
    let (run, client) = run_with_client("yes & exit 2", false);
    let finished = run.thread.join().unwrap().unwrap();
    assert_eq!(finished.exit, Exit::Code(2));
    std::thread::spawn(|| finished.announce());
    assert!(receive_all(&client).0.len() < 4 * DRAIN_BYTES);
}

#[test]
fn a_console_has_a_size_and_ends() {
    let (client, socket) = pair().unwrap();
    assert!(client.send(&Request::Resize { rows: 33, columns: 120 }));
    assert!(client.send(&Request::Stdin(b"go\n")));
    let shell = Shell::spawn_on_console("read go; stty size; exit 9");
    let run = run(shell, Options { foreground: Some(socket), ..Options::default() });
    let reader = std::thread::spawn(move || receive_all(&client));
    assert_eq!(run.finish().0, Exit::Code(9));
    let (out, _, code) = reader.join().unwrap();
    assert_eq!(code, Some(9));
    assert!(String::from_utf8_lossy(&out).contains("33 120\r\n"));
}

#[test]
fn a_console_that_was_closed_can_be_opened_again() {
    let script = "tty=$(tty); exec </dev/null >/dev/null 2>&1; sleep 0.3; echo back >$tty; sleep 0.3";
    let (_, folder) = run(Shell::spawn_on_console(script), Options::default()).finish();
    assert_eq!(log_of(&folder), [(Stream::Stdout, "back\r\n".to_owned())]);
}

#[test]
fn signals_of_the_command_reach_the_monitor() {
    let (client, socket) = pair().unwrap();
    let shell = Shell::spawn_on_console("read go; stty size");
    let run = run(shell, Options { foreground: Some(socket), ..Options::default() });
    let (mut ready, mut ring) = std::io::pipe().unwrap();
    let session = std::thread::spawn(move || {
        let ready_fd = ready.try_clone().unwrap();
        let mut take = || ready.read_exact(&mut [0]).map(|()| Some(Request::Resize { rows: 7, columns: 8 }));
        let signals = Signals { ready: ready_fd.as_fd(), take: &mut take };
        client.relay(Relay {
            stdin: None,
            stdout: None,
            stderr: None,
            detach_keys: None,
            signals: Some(signals),
        })
    });
    ring.write_all(b"!").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    run.attach().send(&Request::Stdin(b"go\n"));
    let (_, folder) = run.finish();
    assert_eq!(session.join().unwrap().unwrap(), Ended::Exited { code: 0 });
    assert!(log_of(&folder).iter().any(|(_, text)| text == "7 8\r\n"));
}

#[test]
fn the_exit_code_arrives_though_input_was_left_unread() {
    let (run, client) = run_with_client("exec <&-; sleep 0.2; exit 3", true);
    let packet = [b'x'; 8_192];
    while client.send(&Request::Stdin(&packet)) {}
    run.finish();
    assert_eq!(receive_all(&client).2, Some(3));
}

#[test]
fn a_failed_start_is_told_and_a_killed_monitor_noticed() {
    let (client, socket) = pair().unwrap();
    let peer = Peer::from_inherited(socket).unwrap();
    assert!(peer.send(&Event::Failed { code: 127, message: "no such file" }, Duration::ZERO));
    drop(peer);
    let ended = client.wait_started(None).unwrap();
    assert_eq!(ended, Some(Ended::Failed { code: 127, message: "no such file".into() }));
    let relay = Relay { stdin: None, stdout: None, stderr: None, detach_keys: None, signals: None };
    assert_eq!(client.relay(relay).unwrap(), Ended::Lost);
}

#[test]
fn long_run_folders_work_and_nobody_there_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let deep: PathBuf = folder.path().join("long".repeat(40));
    fs::create_dir(&deep).unwrap();
    let connect = || Client::connect(&deep, Streams::ALL).unwrap().is_some();
    assert!(!connect());
    let listener = Listener::bind(&deep).unwrap();
    assert!(connect());
    drop(listener);
    assert!(!connect(), "a monitor that was killed leaves its socket");
    let _again = Listener::bind(&deep).unwrap();
    assert!(connect());
}
