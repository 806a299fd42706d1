//! Seccomp: the default profile, and the compiler from a profile to the kernel's filter.

mod compile;
mod profile;
mod table;

pub use compile::{CompileError, compile};
pub use profile::default_profile;
