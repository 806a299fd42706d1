//! Seccomp in force: each action, an agent that is asked, 32-bit programs.

use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixListener;

use oci_spec::runtime::{
    ContainerProcessState, ContainerState, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSyscall,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::fixture::Container;
use crate::{stderr, stdout};

/// All is allowed but `name`, with which `action` is done.
fn profile(name: &str, action: Action, errno: Option<u32>) -> LinuxSeccomp {
    let mut rule = LinuxSyscall::default();
    rule.set_names(vec![name.to_owned()]).set_action(action).set_errno_ret(errno);
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(Action::ScmpActAllow).set_syscalls(Some(vec![rule]));
    profile
}

fn with(profile: LinuxSeccomp, script: &str) -> Container {
    let mut container = Container::shell(script);
    container.spec.linux_mut().as_mut().unwrap().set_seccomp(Some(profile));
    container
}

#[test]
fn every_action_does_what_it_says() {
    let script = "mkdir /tmp/x 2>&1; echo $?";
    for (action, errno, expected) in [
        (Action::ScmpActErrno, Some(28), "No space left on device\n1"),
        (Action::ScmpActErrno, None, "Operation not permitted\n1"),
        (Action::ScmpActErrno, Some(0), "0"),
        (Action::ScmpActKill, None, "159"),
        (Action::ScmpActKillThread, None, "159"),
        (Action::ScmpActKillProcess, None, "159"),
        (Action::ScmpActTrap, None, "159"),
        // Nobody traces it.
        (Action::ScmpActTrace, Some(7), "Function not implemented\n1"),
        (Action::ScmpActLog, None, "0"),
        (Action::ScmpActAllow, None, "0"),
    ] {
        let container = with(profile("mkdir", action, errno), script);
        let text = stdout(&container.run());
        assert!(text.ends_with(expected), "{action:?} {errno:?}: {text}");
        let made = container.path("/tmp/x").exists();
        assert_eq!(made, matches!(action, Action::ScmpActLog | Action::ScmpActAllow), "{action:?}");
    }
}

#[test]
fn flags_are_taken() {
    let mut with_flags = profile("mkdir", Action::ScmpActErrno, None);
    let flags = r#"["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#;
    with_flags.set_flags(Some(serde_json::from_str(flags).unwrap()));
    assert_eq!(with(with_flags, "mkdir /tmp/x || echo refused").stdout(), "refused");
}

#[test]
fn an_agent_gets_the_listener_and_the_state() {
    for no_new_privileges in [false, true] {
        let mut notify = profile("mkdir", Action::ScmpActNotify, None);
        let mut container = with(notify.clone(), "mkdir /tmp/x 2>&1; echo after");
        let socket = container.outside("agent");
        let agent = UnixListener::bind(&socket).unwrap();
        notify.set_listener_path(Some(socket)).set_listener_metadata(Some("for the agent".into()));
        container.spec.linux_mut().as_mut().unwrap().set_seccomp(Some(notify));
        container.process().set_no_new_privileges(Some(no_new_privileges));
        let answer = std::thread::spawn(move || {
            let (mut peer, _) = agent.accept().unwrap();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut data = vec![0; 4096];
            let mut slices = [IoSliceMut::new(&mut data)];
            let received = rustix::net::recvmsg(&peer, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC);
            let count = received.unwrap().bytes;
            let fds = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds.count()),
                _ => None,
            });
            // The listener is closed here: who waits for an answer gets ENOSYS.
            let fds: usize = fds.sum();
            data.truncate(count);
            peer.read_to_end(&mut data).unwrap();
            (fds, serde_json::from_slice::<ContainerProcessState>(&data).unwrap())
        });
        let output = container.run();
        let (fds, state) = answer.join().unwrap();
        assert_eq!((fds, state.fds().as_slice()), (1, &["seccompFd".to_owned()][..]), "{}", stderr(&output));
        assert_eq!(state.metadata().as_deref(), Some("for the agent"));
        assert!(*state.pid() > 0);
        let told = state.state();
        assert_eq!(
            (told.id().as_str(), told.status(), *told.pid()),
            ("stage", &ContainerState::Creating, Some(*state.pid()))
        );
        assert_eq!((told.bundle().to_str(), told.version()), (Some("/bundle"), state.version()));
        let text = stdout(&output);
        assert!(text.contains("Function not implemented") && text.ends_with("after"), "{text}");
    }
}

#[test]
fn an_agent_that_is_not_there_is_an_error() {
    let mut notify = profile("mkdir", Action::ScmpActNotify, None);
    let container = with(notify.clone(), "true");
    assert!(stderr(&container.run()).contains("needs a listenerPath"), "{}", stderr(&container.run()));
    notify.set_listener_path(Some("/no/such/agent".into()));
    let container = with(notify, "true");
    assert!(stderr(&container.run()).contains("/no/such/agent"));
    let mut lonely = profile("mkdir", Action::ScmpActErrno, None);
    lonely.set_listener_metadata(Some("x".into()));
    assert!(stderr(&with(lonely, "true").run()).contains("listenerMetadata"));
}

/// A program of 32 bits that yields once and ends with 42: what an x86-64 kernel runs beside its own kind.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_32_bit_program_runs_where_its_architecture_is_allowed() {
    use oci_spec::runtime::Arch;
    use std::os::unix::fs::PermissionsExt;
    // mov eax,158; int 0x80 (sched_yield); mov eax,1; mov ebx,42; int 0x80 (exit)
    let code = [0xb8, 158, 0, 0, 0, 0xcd, 0x80, 0xb8, 1, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80];
    let mut file = Vec::new();
    let half =
        |file: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    let word =
        |file: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    file.extend(b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0");
    half(&mut file, &[2, 3]);
    word(&mut file, &[1, 0x0804_8054, 52, 0, 0]);
    half(&mut file, &[52, 32, 1, 0, 0, 0]);
    let size = 84 + code.len() as u32;
    word(&mut file, &[1, 0, 0x0804_8000, 0x0804_8000, size, size, 5, 0x1000]);
    file.extend(code);
    let run = |architectures: Vec<Arch>, refused: &str| {
        let mut asked = profile(refused, Action::ScmpActKillProcess, None);
        asked.set_architectures(Some(architectures));
        let container = with(asked, "/small; echo $?");
        std::fs::write(container.path("/small"), &file).unwrap();
        std::fs::set_permissions(container.path("/small"), std::fs::Permissions::from_mode(0o755)).unwrap();
        stdout(&container.run())
    };
    let both = || vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32];
    if run(both(), "acct").contains("126") {
        writeln!(std::io::stderr(), "skipped: this kernel runs no 32-bit programs").unwrap();
        return;
    }
    assert_eq!(run(both(), "acct"), "42");
    assert_eq!(run(both(), "sched_yield"), "159", "the rule holds for its number of the call");
    assert_eq!(run(vec![Arch::ScmpArchX86_64], "acct"), "159");
}
