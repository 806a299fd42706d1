//! What is said to systemd, and what is made of its answers, with a manager that is played. A real one is in
//! `crates/carrack/tests/systemd.rs`.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use super::*;
use message::{FIXED, Received, Value};

/// What the manager does when it is called: its messages, each made of the serial of the call.
type Answer = fn(u32) -> Vec<Vec<u8>>;

/// Listens, answers one call after the other, and returns what it was sent.
struct Manager {
    folder: tempfile::TempDir,
    thread: JoinHandle<Vec<(Received, Vec<u8>)>>,
}

impl Manager {
    fn start(answers: &'static [Answer]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("private")).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let uid = rustix::process::geteuid().as_raw().to_string();
            let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
            // As systemd: what comes in one piece with BEGIN is lost, so the call must come after OK.
            let mut bytes = vec![0; 4096];
            let count = stream.read(&mut bytes).unwrap();
            let expected = format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n");
            assert_eq!(String::from_utf8_lossy(&bytes[..count]), expected);
            stream.write_all(b"OK 0123\r\n").unwrap();
            let mut calls = Vec::new();
            for (number, answer) in answers.iter().enumerate() {
                let mut bytes = vec![0; FIXED];
                stream.read_exact(&mut bytes).unwrap();
                let rest = message::rest(bytes[..].try_into().unwrap()).unwrap();
                bytes.resize(FIXED + rest, 0);
                stream.read_exact(&mut bytes[FIXED..]).unwrap();
                calls.push((message::read(&bytes).unwrap(), bytes));
                for message in answer(u32::try_from(number).unwrap() + 1) {
                    stream.write_all(&message).unwrap();
                }
            }
            calls
        });
        Self { folder, thread }
    }

    fn bus(&self) -> Bus {
        Bus::connect(&self.folder.path().join("private")).unwrap()
    }

    fn members(self) -> Vec<String> {
        self.thread.join().unwrap().into_iter().map(|(call, _)| call.member.unwrap()).collect()
    }
}

fn job(serial: u32) -> Vec<u8> {
    message::sent(message::ANSWER, &[(5, "u", &serial.to_string())], "o", &["/job/7"])
}

fn removed(result: &str) -> Vec<u8> {
    let texts = ["7", "/job/7", "carrack-one.scope", result];
    message::sent(message::SIGNAL, &[(3, "s", "JobRemoved")], "uoss", &texts)
}

fn error(serial: u32, name: &str) -> Vec<u8> {
    let fields = [(4, "s", name), (5, "u", &*serial.to_string())];
    message::sent(message::ERROR, &fields, "s", &["it says why"])
}

fn scope() -> Scope {
    Scope::new("machine.slice", "carrack", "one").unwrap()
}

#[test]
fn slices_are_steps_down_the_tree() {
    let path = |slice: &str| expand(slice).map(|path| path.display().to_string());
    assert_eq!(path("machine.slice").unwrap(), "/machine.slice");
    assert_eq!(path("a-b-c.slice").unwrap(), "/a.slice/a-b.slice/a-b-c.slice");
    assert_eq!(path("-.slice").unwrap(), "/");
    for wrong in
        ["", ".slice", "a", "a.scope", "a--b.slice", "-a.slice", "a-.slice", "a/b.slice", "a..\0.slice"]
    {
        assert!(path(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_cgroups_path_names_slice_prefix_and_name() {
    let parse = |text: &str| Scope::parse(text).map(|scope| scope.path().display().to_string());
    assert_eq!(parse("user-1.slice:libpod:0a").unwrap(), "/user.slice/user-1.slice/libpod-0a.scope");
    assert_eq!(parse(":cri:0a").unwrap(), "/system.slice/cri-0a.scope");
    assert_eq!(parse("a.slice::0a").unwrap(), "/a.slice/0a.scope");
    for wrong in ["", "/a/b", "a.slice:b", "a.slice:b:", "a.slice:b:c:d", "a.slice:b:../c", "a:b:c"] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_start_returns_when_its_job_has_ended() {
    let manager = Manager::start(&[|serial| vec![removed("done"), job(serial)]]);
    scope().start_over(&mut manager.bus(), 42, &LinuxResources::default(), &Layout::default()).unwrap();
    let (call, bytes) = manager.thread.join().unwrap().remove(0);
    assert_eq!(call.member.as_deref(), Some("StartTransientUnit"));
    assert_eq!(call.texts, ["carrack-one.scope", "replace"]);
    let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(has(b"Slice\0\x01s\0\0\x0d\0\0\0machine.slice\0") || has(b"machine.slice\0"));
    assert!(has(b"Delegate\0\x01b\0") && has(b"\x02au\0") && has(b"\x2a\0\0\0"));
}

#[test]
fn a_scope_that_is_left_over_is_reset_once() {
    let manager = Manager::start(&[
        |serial| vec![error(serial, "org.freedesktop.systemd1.UnitExists")],
        |serial| vec![job(serial)],
        |serial| vec![job(serial), removed("done")],
    ]);
    scope().start_over(&mut manager.bus(), 42, &LinuxResources::default(), &Layout::default()).unwrap();
    assert_eq!(manager.members(), ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);
}

#[test]
fn what_systemd_refuses_is_in_the_error() {
    let manager = Manager::start(&[|serial| vec![error(serial, "org.freedesktop.DBus.Error.AccessDenied")]]);
    let limits = LinuxResources::default();
    let refused = scope().start_over(&mut manager.bus(), 42, &limits, &Layout::default()).unwrap_err();
    assert!(refused.to_string().contains("carrack-one.scope"), "{refused}");
    assert!(refused.to_string().contains("it says why"), "{refused}");

    let manager =
        Manager::start(&[|serial| vec![job(serial), removed("failed")], |serial| vec![job(serial)]]);
    let failed = scope().start_over(&mut manager.bus(), 42, &limits, &Layout::default()).unwrap_err();
    assert!(failed.to_string().contains("\"failed\""), "{failed}");
    assert_eq!(manager.members(), ["StartTransientUnit", "ResetFailedUnit"]);

    // It hangs up without a word.
    let manager = Manager::start(&[|_| Vec::new()]);
    assert!(scope().start_over(&mut manager.bus(), 42, &limits, &Layout::default()).is_err());
    // It sends what is no message.
    let manager = Manager::start(&[|_| vec![vec![b'x'; 64]]]);
    let garbage = scope().stop_over(&mut manager.bus()).unwrap_err();
    assert!(garbage.to_string().contains("no message of D-Bus"), "{garbage}");
}

#[test]
fn a_stop_forgets_the_unit_and_one_that_is_gone_is_stopped() {
    let manager = Manager::start(&[
        |serial| vec![job(serial), removed("done")],
        |serial| vec![error(serial, "org.freedesktop.systemd1.NoSuchUnit")],
    ]);
    scope().stop_over(&mut manager.bus()).unwrap();
    assert_eq!(manager.members(), ["StopUnit", "ResetFailedUnit"]);
    let manager = Manager::start(&[|serial| vec![error(serial, "org.freedesktop.systemd1.NoSuchUnit")]]);
    scope().stop_over(&mut manager.bus()).unwrap();
    assert_eq!(manager.members(), ["StopUnit"]);
}

#[test]
fn an_update_says_only_what_changes() {
    let mut pids = oci_spec::runtime::LinuxPids::default();
    pids.set_limit(9);
    let mut limits = LinuxResources::default();
    limits.set_devices(None).set_pids(Some(pids));
    let manager = Manager::start(&[|serial| {
        vec![message::sent(message::ANSWER, &[(5, "u", &serial.to_string())], "", &[])]
    }]);
    scope().update_over(&mut manager.bus(), &limits, &Layout::default()).unwrap();
    let (call, bytes) = manager.thread.join().unwrap().remove(0);
    assert_eq!(call.member.as_deref(), Some("SetUnitProperties"));
    let expected = message::call(
        1,
        "SetUnitProperties",
        &[
            Argument::Text("carrack-one.scope".into()),
            Argument::Bool(true),
            Argument::Properties(vec![("TasksMax", Value::Number(9))]),
        ],
    );
    assert_eq!(bytes, expected);
}
