//! `exec`: a further program in a container, by whom it runs, and what it finds.

use std::io::Read;
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::kit::{IMAGE, store, with_input};
use crate::{UNTIL_TERM, await_ready, detached, folder, inspect};

#[test]
fn every_flag_of_exec() {
    let store = store();
    let flags =
        ["--name", "one", "-e", "A=1", "-e", "B=1", "-w", "/bin", "--umask", "0027", "--unsetenv", "PATH"];
    detached(&store, &flags, UNTIL_TERM);
    let files = folder(&store, "files", &[("env", "B=file\nC=file\n")]);
    let file = files.join("env").display().to_string();
    let exec = |words: &[&str]| store.carrack([&["exec"], words].concat());
    let script = "echo $A $B $C $D $PWD $HOME; umask";
    let seen =
        exec(&["--env-file", &file, "-e", "C=flag", "-e", "D=", "one", "/bin/sh", "-c", script]).line();
    assert_eq!(seen, "1 file flag /bin /root\n0027");
    let home = exec(&["-u", "nobody", "one", "/bin/sh", "-c", "echo $HOME $(/bin/id -u)"]).line();
    assert_eq!(home, "/ 65534");
    let term = exec(&["-t", "one", "/bin/sh", "-c", "echo $TERM; test -t 1 && echo terminal"]);
    assert_eq!(term.success().stdout, "xterm\r\nterminal\r\n");
    exec(&["one", "/bin/sh", "-c", "kill -9 $$"]).code(137);
    exec(&["-w", "/no/such", "one", "/bin/true"]).code(125);
    exec(&["-d", "one", "/bin/touch", "/made"]).success();
    crate::eventually("the detached command has run", || {
        exec(&["one", "/bin/test", "-e", "/made"]).code == 0
    });
    exec(&["--preserve-fds", "1", "one", "/bin/true"]).code(125);
    exec(&["one"]).code(125);
}

#[test]
fn a_privileged_command_has_every_capability() {
    let store = store();
    detached(&store, &["--name", "one"], UNTIL_TERM);
    let status = |flags: &[&str]| {
        let script = "grep -E '^(CapEff|CapBnd|Seccomp):' /proc/self/status | cut -f 2 | tr '\\n' ' '";
        store.carrack([&["exec"], flags, &["one", "sh", "-c", script]].concat()).success().stdout
    };
    assert_eq!(status(&[]), "00000000800405fb 00000000800405fb 2 ");
    let open = status(&["--privileged"]);
    assert!(!open.starts_with("00000000800405fb") && open.ends_with(" 2 "), "the profile holds: {open}");
    let user = status(&["--privileged", "--user", "nobody"]);
    assert!(user.starts_with("0000000000000000 ") && !user.contains("800405fb"), "{user}");
}

#[test]
fn a_container_that_does_not_run_takes_no_command() {
    let store = store();
    store.carrack(["create", "--name", "new", "--network", "none", IMAGE]).success();
    for name in ["new", "absent"] {
        let refused = store.carrack(["exec", name, "true"]).code(1);
        assert!(refused.stderr.contains(name), "{}", refused.stderr);
    }
}

#[test]
fn odd_users_are_refused_and_hostile_files_do_no_harm() {
    let store = store();
    detached(&store, &["--name", "one", "--stop-timeout", "0"], UNTIL_TERM);
    await_ready(&store, "one");
    let exec = |user: &str| store.carrack(["exec", "-u", user, "one", "id", "-u"]);
    for (user, uid) in
        [("", "0"), ("0:0", "0"), ("nobody:root", "65534"), ("7", "7"), ("7:8", "7"), (":nogroup", "0")]
    {
        assert_eq!(exec(user).line(), uid, "{user:?}");
    }
    let odd = [
        "-1",
        "+1",
        "4294967295",
        "4294967296",
        "99999999999999999999",
        "0x0",
        " 0",
        "root ",
        "0:-1",
        "0:4294967295",
        "root\n",
        "root:x:0",
        "a:b:c",
        "../root",
    ];
    for user in odd {
        let refused = exec(user);
        assert!(refused.code >= 125, "{user:?} ran: {} {}", refused.stdout, refused.stderr);
    }
    // What the container has made of its own files must neither hang nor take memory nor name another user.
    let inside = |script: &str| store.carrack(["exec", "-u", "0", "one", "sh", "-c", script]);
    inside("rm /etc/passwd; mkfifo /etc/passwd").success();
    exec("nobody").code(125);
    // A FIFO where the file should be is an error for numbers too: the home folder is not known.
    assert!(exec("7").code == 125);
    store.carrack(["exec", "one", "true"]).code(125);
}

#[test]
fn giant_files_of_users_are_refused() {
    let store = store();
    let image = crate::kit::busybox()
        .layer(&format!("/etc/passwd {:?}", format!("root:x:0:0:{}:/:/bin/sh\n", "x".repeat(2 << 20))));
    store.load(&image, "localhost/giant:1");
    let run = store
        .carrack(["run", "--rm", "--network", "none", "-u", "root", "localhost/giant:1", "true"])
        .code(125);
    assert!(run.stderr.contains("/etc/passwd"), "{}", run.stderr);
    let long = crate::kit::busybox().layer(&format!(
        "/etc/passwd {:?}",
        "root:x:0:0:root:/root:/bin/sh\n".to_owned() + &"y".repeat(500_000)
    ));
    store.load(&long, "localhost/long:1");
    store.carrack(["run", "--rm", "--network", "none", "-u", "root", "localhost/long:1", "true"]).success();
}

#[test]
fn input_reaches_the_command_only_when_asked() {
    let store = store();
    detached(&store, &["--name", "one"], UNTIL_TERM);
    let mut command = store.command();
    let (code, output, _) = with_input(command.args(["exec", "one", "cat"]), b"not read\n");
    assert_eq!((code, output.as_str()), (0, ""));
}

#[test]
fn a_seccomp_agent_is_told_which_container_it_answers_for() {
    let store = store();
    let socket = store.path().join("agent");
    let profile = store.path().join("profile.json");
    let asked = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": socket,
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
    });
    std::fs::write(&profile, asked.to_string()).unwrap();
    let agent = UnixListener::bind(&socket).unwrap();
    // The listener is not taken, so who waits for an answer gets ENOSYS.
    let told = move || -> Value {
        let mut text = Vec::new();
        agent.accept().unwrap().0.read_to_end(&mut text).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let listening = std::thread::spawn(move || [told(), told()]);
    let option = format!("seccomp={}", profile.display());
    let flags = ["--security-opt", &option, "--annotation", "port=Bergen", "--name", "one"];
    let id = detached(&store, &flags, "mkdir /x || echo ready; sleep 1000");
    await_ready(&store, "one");
    store.carrack(["exec", "one", "sh", "-c", "mkdir /y || exit 3"]).code(3);
    let [started, executed] = listening.join().unwrap();
    let pid: i64 = inspect(&store, "one", "{{.State.Pid}}").parse().unwrap();
    let state = |status: &str| {
        let bundle = store.runroot().join("containers").join(&id);
        let annotations = json!({"port": "Bergen"});
        json!({"ociVersion": "1.2.0", "id": id, "status": status, "pid": pid, "bundle": bundle, "annotations": annotations})
    };
    assert_eq!((&started["state"], &started["pid"]), (&state("creating"), &json!(pid)));
    assert_eq!(executed["state"], state("running"));
    assert_ne!(executed["pid"], json!(pid));
}
