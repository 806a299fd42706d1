//! The real binary, as users have it: real mounts, namespaces and networks, in a store of its own for each test.

mod architecture;
mod build;
mod cli;
mod crash;
mod hostile;
mod isolation;
mod kit;
mod peers;
mod registry;
mod run;
