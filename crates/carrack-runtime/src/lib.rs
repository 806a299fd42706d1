//! An OCI runtime as a library: containers from a [`oci_spec::runtime::Spec`] and a detached mount.
//!
//! ```text
//! caller (one thread)                 first process of the container
//!   create: plan = spec -> data,
//!           sources opened
//!           clone3 ───────────────────▶ namespaces joined, rootfs attached, mounts, devices, console
//!           owners mapped, cgroups ───▶ cgroup mounts, read-only and masked paths, pivot_root
//!   (network attached by the caller)
//!   start: ───────────────────────────▶ kernel parameters, limits, capabilities, user, seccomp
//!          ◀── runs, or why not ─────── exec
//!   wait
//! ```
//!
//! carrack makes no mount in the host's mount namespace. The parent only opens descriptors; the child places them.
//! The order of the child's steps is in `init.rs` and `process.rs`, one function each.

pub mod capabilities;
pub mod cgroup;
mod channel;
mod console;
mod console_socket;
mod copy_up;
mod devices;
mod error;
mod exec;
pub mod executable;
pub mod hooks;
mod init;
pub mod labels;
mod landlock;
mod launch;
mod masks;
mod mount_options;
mod mounts;
mod namespaces;
pub mod oci;
pub mod owners;
mod process;
mod reaper;
mod rlimits;
mod rootfs;
mod scheduling;
pub mod seccomp;
mod shared_memory;
pub mod spec;
mod standby;
mod sysctl;
mod user;

pub use console_socket::ConsoleSocket;
pub use error::{Error, Result};
pub use exec::{Exec, exec};
pub use landlock::Landlock;
pub use launch::{ExitStatus, Init, Launch, Running, create};
pub use process::{Inherited, Stdio, check_descriptors, descriptors_from_3};
pub use rlimits::ClampedRlimit;
pub use shared_memory::shared_memory_of;
pub use standby::{Standby, start_standing};
pub use user::{User, resolve_groups, resolve_user};
