//! The real binary, as users have it: real mounts, namespaces and networks, in a store of its own for each test.

mod architecture;
mod archives;
mod cli;
mod copy;
mod drivers;
mod images;
mod kit;
mod manifest;
mod policy;
mod push;
mod registries;
mod registry;
mod run_flags;
mod spec_table;
