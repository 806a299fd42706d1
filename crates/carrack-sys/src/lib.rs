//! All that needs `unsafe`, and the file-system operations whose safety is subtle: atomic files, locks, paths below
//! a root, mounts, processes.
//!
//! Everything else in the workspace forbids `unsafe` and goes through this crate or `rustix`.
#![allow(unsafe_code)]

pub mod atomic;
pub mod bpf;
pub mod cache;
mod error;
mod heap;
pub mod interface;
pub mod landlock;
pub mod lock;
pub mod memory;
pub mod mount;
pub mod process;
pub mod rooted;
pub mod scheduling;
pub mod seccomp;
pub mod signals;
pub mod sparse;
pub mod tree;

pub use error::{Error, IoContext, Result};
