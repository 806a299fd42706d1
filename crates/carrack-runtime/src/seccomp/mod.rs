//! Seccomp: the default profile, and the compiler from a profile to the kernel's filter.

pub(crate) mod agent;
mod compile;
mod profile;
mod table;
#[cfg(target_arch = "x86_64")]
mod table_x86;

pub(crate) use compile::notifies;
pub use compile::{CompileError, compile};
pub use profile::default_profile;
