//! The words for when an image is pulled.

use carrack_engine::PullPolicy;
use clap::ValueEnum;

/// Docker's and podman's words; `true` and `false` are those of older podmans and of `build --pull`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    #[value(alias = "true")]
    Always,
    #[value(alias = "false", alias = "ifnotpresent")]
    Missing,
    #[value(alias = "ifnewer")]
    Newer,
    Never,
}

impl From<Policy> for PullPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Always => Self::Always,
            Policy::Missing => Self::Missing,
            Policy::Newer => Self::Newer,
            Policy::Never => Self::Never,
        }
    }
}
