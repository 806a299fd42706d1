//! Work in another network namespace, on a thread of its own: the caller's thread never changes its namespace.

use std::os::fd::BorrowedFd;
use std::panic::resume_unwind;
use std::thread;

use carrack_sys::IoContext;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Result;

/// Runs `work` in `netns` and returns what it returned.
pub(crate) fn inside<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let entered = || {
            move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
                .during("enter", "the container's network namespace")?;
            work()
        };
        let thread = thread::Builder::new().name("netns".into()).spawn_scoped(scope, entered);
        thread
            .during("start", "a thread for a network namespace")?
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic))
    })
}
