//! What to build, and what comes of it.

use std::collections::BTreeMap;

use carrack_dockerfile::{Dockerfile, RunNetwork};
use carrack_oci::{ImageConfig, Platform};

use crate::{Context, Layer};

/// Everything that determines a build.
pub struct BuildPlan {
    /// The parsed file.
    pub dockerfile: Dockerfile,
    /// `--target`: the stage to build; the last by default.
    pub target: Option<String>,
    /// `--build-arg`
    pub build_args: BTreeMap<String, String>,
    /// `--label`: put on the result, over those of the file.
    pub labels: BTreeMap<String, String>,
    /// What the result runs on.
    pub platform: Platform,
    /// What the build runs on.
    pub build_platform: Platform,
    /// Where `COPY` and `ADD` take files from.
    pub context: Context,
    /// The time that the image says it was made at, and that no file of a new layer is later than. The same plan
    /// with the same timestamp gives the same digests, as far as its commands do.
    ///
    /// `None` takes the time of the newest base image. A time that the user has chosen is part of the cache keys: a
    /// step that was made with another is made again.
    pub timestamp_unix: Option<i64>,
    /// Run every step, also those that are in the cache.
    pub no_cache: bool,
    /// The network of a `RUN` that does not say.
    pub network: RunNetwork,
}

/// What a build made; nothing of it is named yet.
#[derive(Clone, Debug)]
pub struct Built {
    /// The config of the image; its diff IDs and history fit the layers.
    pub config: ImageConfig,
    /// The layers, base first.
    pub layers: Vec<Layer>,
}
