//! Containers that another OCI runtime starts: runc, crun, or a program with the same command line.
//!
//! ```text
//! RUNROOT/containers/<id>/        the bundle
//!   config.json                   the spec, as for every container
//!   rootfs/, sources/<n>          empty for the host: where the runtime finds the container's files and its mounts
//!   runtime/                      the runtime's own state (its --root)
//!   exec-<pid>/                   of one call of its exec
//! ```
//!
//! The files of a container are a detached mount, and a runtime wants a path. So its `create` runs in a mount namespace
//! of its own, in which they lie in the bundle, and which is gone with it: no mount is made in the host's namespace, and
//! the monitor pins none. All later calls need no path. carrack makes the cgroup and the place in the network as for its
//! own containers, and is the parent of the container's first process, because the runtime leaves it to the next subreaper.

mod bundle;
mod calls;
mod choice;
mod create;
mod exec;

pub(crate) use bundle::adapted;
pub(crate) use calls::Calls;
pub(crate) use choice::{check, refuse_descriptors};
pub(crate) use create::Created;
