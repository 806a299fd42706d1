//! Dockerfiles: text to syntax tree, and the expansion of variables (Docker's Dockerfile reference, as of BuildKit
//! 0.27; where we differ from it, [`design`] says so).
//!
//! Pure: no input or output, and no panic on any text. Every error knows its line and columns.

pub mod design;
mod directive;
mod duration;
mod error;
mod expand;
mod flag;
mod fragment;
mod heredoc;
mod instruction;
mod line;
mod mount;
mod parse;
mod parse_copy;
mod parse_pairs;
mod parse_run;
mod pattern;

pub use error::{ParseError, Warning};
pub use expand::{ExpandError, Expander};
pub use heredoc::Heredoc;
pub use instruction::{
    ArgDeclaration, CommandLine, Copy, CopySource, Dockerfile, Healthcheck, Instruction, InstructionKind,
    Pair, Run, RunNetwork, Stage,
};
pub use mount::{CacheSharing, Mount, MountFlag, MountKind};
pub use parse::{MAX_DOCKERFILE_BYTES, parse, parse_trigger};
