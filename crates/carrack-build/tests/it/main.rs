//! Builds through the public surface, on real folders.

mod cache;
mod config;
mod copy;
mod hostile;
mod ignore;
mod kit;
mod run;
mod stages;
