//! `carrack build`

use std::path::PathBuf;

use carrack_engine::BuildRequest;
use carrack_oci::{Platform, Reference};
use clap::Args;

use super::pull_policy::Policy;
use super::registry_flags::RegistryFlags;
use super::{Command, container_flags, pairs};
use crate::context::{self, Context, source_date_epoch};
use crate::failure::{Failure, Result};
use crate::output::print_line;
use crate::progress::Progress;

pub const EXAMPLES: &str = "Examples:
  carrack build -t app .
  carrack build -t app:1.2 -t registry.example/team/app:1.2 --build-arg VERSION=1.2 .
  carrack build --target test --no-cache -f docker/Dockerfile .";

/// Builds an image from a Dockerfile. The same inputs give the same digests: the image is dated as its base image,
/// unless SOURCE_DATE_EPOCH or --timestamp says otherwise.
#[derive(Args)]
pub struct Build {
    /// Name of the image
    #[arg(short, long, value_name = "REFERENCE")]
    tag: Vec<Reference>,
    /// The Dockerfile; without it Dockerfile or Containerfile in the context
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Build up to this stage
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Set an ARG (NAME=value), or pass on the caller's variable (NAME)
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Label of the image
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Run every step again
    #[arg(long)]
    no_cache: bool,
    /// What the image runs on
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Network of RUN: none, host or bridge
    #[arg(long, value_name = "NETWORK", default_value = "bridge")]
    network: String,
    /// When to pull base images: always (the flag alone), missing, newer, never
    #[arg(
        long,
        value_name = "POLICY",
        default_value = "missing",
        default_missing_value = "always",
        num_args = 0..=1,
        require_equals = true
    )]
    pull: Policy,
    #[command(flatten)]
    registry: RegistryFlags,
    /// Date of the image and of newer files in its layers, in seconds since 1970
    #[arg(long, value_name = "SECONDS")]
    timestamp: Option<i64>,
    /// Write the image ID to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Print the image ID only
    #[arg(short, long)]
    quiet: bool,
    /// Folder that COPY and ADD take files from
    #[arg(value_name = "CONTEXT")]
    context: PathBuf,
}

impl Command for Build {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = self.registry.apply(context).engine()?;
        let progress = Progress::new(self.quiet);
        let request = BuildRequest {
            tags: self.tag,
            dockerfile: self.file,
            target: self.target,
            build_args: self.build_arg.iter().filter_map(|text| build_arg(text)).collect(),
            labels: pairs(&self.label),
            no_cache: self.no_cache,
            platform: self.platform.unwrap_or_else(Platform::host),
            network: container_flags::network(&self.network)?,
            pull: self.pull.into(),
            timestamp_unix: self.timestamp.map_or_else(source_date_epoch, |seconds| Ok(Some(seconds)))?,
            context: self.context,
        };
        let record = engine.build(request, &|event| progress.observe(event))?;
        progress.finish();
        if let Some(file) = &self.iidfile {
            std::fs::write(file, record.id().as_str())
                .map_err(|error| Failure::message(format!("cannot write {}: {error}", file.display())))?;
        }
        print_line(record.id())?;
        Ok(0)
    }
}

/// A name without a value passes on the caller's variable, and nothing when there is none.
fn build_arg(text: &str) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => Some((text.to_owned(), context::variable(text)?)),
    }
}
