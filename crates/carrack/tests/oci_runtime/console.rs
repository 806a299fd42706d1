//! Terminals: handed over by a socket.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixListener;
use std::process::Command;

use carrack_testkit::Run;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

use crate::LIMIT;
use crate::bundle::Bundle;

/// The master of the terminal that somebody sends to `listener`.
fn receive(listener: &UnixListener) -> File {
    let (socket, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let received = recvmsg(&socket, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC);
    assert!(received.unwrap().bytes > 0, "the message has the name of the terminal");
    let mut rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    File::from(rights.next().unwrap().next().unwrap())
}

/// Reads until `wanted` has come.
fn read_until(master: &mut File, wanted: &str) {
    let (mut text, mut buffer) = (String::new(), [0; 1024]);
    while !text.contains(wanted) {
        let count = master.read(&mut buffer).unwrap_or(0);
        assert!(count > 0, "expected {wanted:?} from the terminal, got {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

#[test]
fn the_master_comes_over_the_socket() {
    let bundle = Bundle::new("stty size; read line; echo got $line; read end");
    bundle.edit(|config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["consoleSize"] = json!({ "height": 31, "width": 77 });
    });
    assert!(bundle.create(&[]).code(1).stderr.contains("needs a console socket"));
    let socket = bundle.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    bundle.create(&["--console-socket", "socket"]).success();
    let mut master = receive(&listener);
    bundle.runtime(&["start", "ID"]).success();
    read_until(&mut master, "31 77");
    master.write_all(b"ahoy\n").unwrap();
    read_until(&mut master, "got ahoy");

    let listener_of_exec = UnixListener::bind(bundle.path().join("second")).unwrap();
    let exec = [
        "exec",
        "--tty",
        "--detach",
        "--console-socket",
        "second",
        "ID",
        "sh",
        "-c",
        "test -t 0 && echo tty",
    ];
    bundle.runtime(&exec).success();
    read_until(&mut receive(&listener_of_exec), "tty");
    master.write_all(b"end\n").unwrap();
    bundle.until("stopped");
}

#[test]
fn run_joins_the_terminal_with_its_own_streams() {
    let bundle = Bundle::new("test -t 1 && echo on a terminal; exit 5");
    bundle.edit(|config| config["process"]["terminal"] = json!(true));
    let run = bundle.runtime(&["run", "ID"]).code(5);
    assert_eq!(run.stdout, "on a terminal\r\n");
}

#[test]
fn exec_joins_the_terminal_with_its_own_streams() {
    let bundle = Bundle::new("sleep 600");
    bundle.create(&[]).success();
    bundle.runtime(&["start", "ID"]).success();
    let mut command: Command = bundle.command();
    command.args(["exec", "-t", &bundle.id(), "sh", "-c", "test -t 0 && echo yes; exit 3"]);
    assert_eq!(Run::of(&mut command, LIMIT).code(3).stdout, "yes\r\n");
}
