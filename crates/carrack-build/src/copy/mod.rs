//! Carrying out `COPY` and `ADD`: which owner and mode, which place, and the writing itself.

mod archive;
mod mode;
mod owner;
mod write;

pub(crate) use archive::open_archive;
pub(crate) use mode::ModeChange;
pub(crate) use owner::resolve_owner;
pub(crate) use write::{NewFile, Target, Writer};
