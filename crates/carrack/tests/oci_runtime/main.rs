//! `carrack runtime` as its callers use it: bundles, hooks, consoles, descriptors, and real peers that drive it.

mod bundle;
mod console;
mod containerd;
mod descriptors;
mod exec;
mod hooks;
mod lifecycle;
mod peers;
mod resources;
mod safety;
mod seccomp;

use std::time::Duration;

const CARRACK: &str = env!("CARGO_BIN_EXE_carrack");
/// The longest that any one program may take; only a broken test comes near it.
const LIMIT: Duration = Duration::from_secs(60);
