//! A seccomp agent: who answers for a system call is told of which container it is.

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::thread::spawn;

use serde_json::{Value, json};

use crate::bundle::Bundle;

/// What the next connection tells. The listener is not taken, so who waits for an answer gets ENOSYS.
fn told(agent: &UnixListener) -> Value {
    let mut text = Vec::new();
    agent.accept().unwrap().0.read_to_end(&mut text).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn an_agent_is_told_the_containers_state_at_start_and_exec() {
    let bundle = Bundle::new("mkdir /x || echo refused; sleep 1000");
    let socket = bundle.path().join("agent");
    bundle.edit(|config| {
        config["annotations"] = json!({"org.example.port": "Bergen"});
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "listenerPath": socket,
            "listenerMetadata": "for the agent",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
        });
    });
    let agent = UnixListener::bind(&socket).unwrap();
    let listening = spawn(move || [told(&agent), told(&agent)]);
    bundle.create(&[]).success();
    bundle.runtime(&["start", "ID"]).success();
    let pid = bundle.state()["pid"].clone();
    bundle.runtime(&["exec", "ID", "sh", "-c", "mkdir /y || exit 3"]).code(3);
    let [started, executed] = listening.join().unwrap();
    let state = |status: &str| {
        json!({
            "ociVersion": "1.2.0", "id": bundle.id(), "status": status, "pid": pid,
            "bundle": bundle.path(), "annotations": {"org.example.port": "Bergen"},
        })
    };
    assert_eq!(started["state"], state("created"));
    assert_eq!(started["pid"], pid);
    assert_eq!(executed["state"], state("running"));
    assert!(executed["pid"].as_i64() > Some(0) && executed["pid"] != pid, "{executed}");
    for message in [&started, &executed] {
        assert_eq!(message["ociVersion"], "1.2.0");
        assert_eq!((&message["fds"], &message["metadata"]), (&json!(["seccompFd"]), &json!("for the agent")));
    }
    bundle.runtime(&["delete", "--force", "ID"]).success();
}
