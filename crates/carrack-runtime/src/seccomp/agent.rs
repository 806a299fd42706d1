//! The seccomp agent of a profile with SCMP_ACT_NOTIFY: a process of the user that answers for the kernel.
//!
//! Invariant: the agent is connected before there is a process, and has the listener before the program runs.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use carrack_sys::IoContext;
use oci_spec::runtime::{ContainerProcessState, LinuxSeccomp, SECCOMP_FD_NAME};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::{Pid, PidfdGetfdFlags, pidfd_getfd};

use crate::oci::State;
use crate::{Error, Result};

/// A connection to the agent, and what it is told (config-linux.md, "The Container Process State").
#[derive(Debug)]
pub(crate) struct Agent {
    socket: UnixStream,
    message: ContainerProcessState,
}

impl Agent {
    /// Connects where the profile needs an agent, which is told the container's `state`: of one that is being created, the
    /// pid is filled in when there is one.
    pub fn connect(profile: Option<&LinuxSeccomp>, state: &State) -> Result<Option<Self>> {
        let Some(profile) = profile else { return Ok(None) };
        let path = profile.listener_path().as_ref();
        if path.is_none() && profile.listener_metadata().is_some() {
            return Err(Error::spec("expected listenerMetadata together with listenerPath, got it alone"));
        }
        if !super::notifies(profile) {
            return Ok(None);
        }
        let path =
            path.ok_or_else(|| Error::spec("the action SCMP_ACT_NOTIFY needs a listenerPath, got none"))?;
        let socket = UnixStream::connect(path).during("connect to the seccomp agent at", path)?;
        let mut message = ContainerProcessState::default();
        message.set_version(state.oci_version.clone()).set_fds(vec![SECCOMP_FD_NAME.to_owned()]);
        message.set_metadata(profile.listener_metadata().clone()).set_state(told(state));
        Ok(Some(Self { socket, message }))
    }

    /// Takes descriptor `number` of the process behind `pidfd` and gives it to the agent.
    pub fn hand_over(&mut self, pid: Pid, pidfd: BorrowedFd<'_>, number: i32) -> Result<()> {
        let listener: OwnedFd = pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())
            .during("take the seccomp listener of", format!("process {}", pid.as_raw_pid()))?;
        self.message.set_pid(pid.as_raw_pid());
        if self.message.state().pid().is_none() {
            self.message.state_mut().set_pid(Some(pid.as_raw_pid()));
        }
        let text = serde_json::to_vec(&self.message).expect("a state has string keys only");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let listeners = [listener.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&listeners));
        let sent =
            rustix::net::sendmsg(&self.socket, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL);
        let mut rest = &text[sent.during("send the seccomp listener to", "the agent")?..];
        while !rest.is_empty() {
            let sent = rustix::net::send(&self.socket, rest, SendFlags::NOSIGNAL);
            rest = &rest[sent.during("send the state to", "the seccomp agent")?..];
        }
        Ok(())
    }
}

/// The same in the type of the message.
fn told(state: &State) -> oci_spec::runtime::State {
    let state = serde_json::to_value(state).and_then(serde_json::from_value);
    state.expect("both are the state of the specification")
}
