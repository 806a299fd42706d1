//! Builds of Dockerfiles: which stages, in which order; what each step reads, whether it is known already, and what
//! it changes.
//!
//! The plan is data ([`BuildPlan`]); [`build()`] carries it out through a [`Backend`], which keeps all state: images,
//! snapshots, processes, the cache. The same plan gives the same layers, as far as its commands do.

mod backend;
mod build;
mod configure;
mod context;
mod copy;
pub mod design;
mod error;
mod event;
mod graph;
mod ignore;
mod key;
mod pattern;
mod plan;
mod run;
mod scope;
mod select;
mod stat_cache;
mod transfer;
mod tree;

pub use backend::{
    Backend, BackendError, BackendResult, BaseImage, Layer, Outcome, RunStep, StepMount, StepMountKind,
    Stream, Workspace,
};
pub use build::build;
pub use configure::apply_changes;
pub use context::Context;
pub use error::{Error, Result};
pub use event::Event;
pub use ignore::IgnoreList;
pub use key::CacheKey;
pub use pattern::name_matches;
pub use plan::{BuildPlan, Built};
pub use stat_cache::StatCache;
