//! `carrack commit`

use std::path::PathBuf;

use carrack_engine::{CommitRequest, Error, Location};
use clap::{ArgAction, Args, ValueEnum};

use super::Command;
use crate::context::{Context, source_date_epoch};
use crate::failure::{Failure, Result};
use crate::output::print_line;
use crate::progress::Progress;

pub const EXAMPLES: &str = "Examples:
  carrack commit web web:snapshot
  carrack commit --change 'CMD [\"/bin/sh\"]' --message 'with tools' web
  carrack commit --pause=false web docker://registry.example/team/web:1";

/// Makes an image of what a container has changed. A running container stands still meanwhile.
#[derive(Args)]
pub struct Commit {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The name of the image; or where to push it without a name here: docker://REFERENCE, oci:DIR[:TAG],
    /// oci-archive:FILE, docker-archive:FILE[:REFERENCE] or dir:DIR
    #[arg(value_name = "REFERENCE|DESTINATION")]
    target: Option<String>,
    /// Who made the image
    #[arg(short, long, value_name = "TEXT")]
    author: Option<String>,
    /// Remark in the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Apply a Dockerfile instruction to the image's config, as in 'CMD ["/bin/sh"]'
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Freeze a running container meanwhile
    #[arg(short, long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true, num_args = 0..=1,
          default_missing_value = "true", require_equals = true)]
    pause: bool,
    /// Make one layer of all files, those of the container's image too
    #[arg(short, long)]
    squash: bool,
    /// The kind of the manifest
    #[arg(short, long, value_name = "FORMAT", default_value = "oci")]
    format: Format,
    /// Date of the image and of newer files in its layer, in seconds since 1970
    #[arg(long, value_name = "SECONDS")]
    timestamp: Option<i64>,
    /// Write the image ID to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Print the image ID only
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Oci,
    Docker,
}

impl Command for Commit {
    fn run(self, context: &Context) -> Result<u8> {
        let location = self.target.as_deref().map(str::parse::<Location>).transpose().map_err(Error::from)?;
        let is_named = self.target.as_ref().is_some_and(|target| !target.starts_with("docker://"));
        let (reference, destination) = match location {
            Some(Location::Registry(reference)) if is_named => (Some(reference), None),
            destination => (None, destination),
        };
        if reference.as_ref().is_some_and(|reference| reference.digest().is_some()) {
            return Err(Failure::message("cannot name an image by a digest: expected a name with a tag"));
        }
        let request = CommitRequest {
            container: self.container,
            reference,
            author: self.author,
            message: self.message,
            changes: self.change,
            pause: self.pause,
            squash: self.squash,
            format: match self.format {
                Format::Oci => carrack_engine::Format::Oci,
                Format::Docker => carrack_engine::Format::Docker,
            },
            timestamp_unix: self.timestamp.map_or_else(source_date_epoch, |seconds| Ok(Some(seconds)))?,
        };
        let engine = context.engine()?;
        let progress = Progress::new(self.quiet);
        let observe = |event: carrack_engine::Event<'_>| progress.observe(event);
        let id = match &destination {
            Some(destination) => engine.commit_to(&request, destination, &observe)?,
            None => engine.commit(&request, &observe)?.id().clone(),
        };
        progress.finish();
        if let Some(file) = &self.iidfile {
            std::fs::write(file, id.as_str())
                .map_err(|error| Failure::message(format!("cannot write {}: {error}", file.display())))?;
        }
        print_line(&id)?;
        Ok(0)
    }
}
