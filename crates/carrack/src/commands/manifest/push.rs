//! `carrack manifest push`

use std::path::PathBuf;

use carrack_engine::{Location, PushListOptions};
use carrack_oci::media_type;
use clap::{ArgAction, Args, ValueEnum};

use super::Command;
use crate::commands::registry_flags::RegistryFlags;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::print_line;
use crate::progress::Progress;

pub const EXAMPLES: &str = "Examples:
  carrack manifest push registry.example/app:1
  carrack manifest push app:1 docker://registry.example/app:1
  carrack manifest push --purge app:1 registry.example/app:1
  carrack manifest push app:1 oci:./layout:1";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Oci,
    V2s2,
}

/// Sends a manifest list with all its images, whose digests stay as they are.
#[derive(Args)]
pub struct Push {
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
    /// Where to, when the list's own name does not say: a reference, oci:DIR[:TAG], oci-archive:FILE
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
    /// Send also the images; with --all=false the registry must have them
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    all: bool,
    /// Remove the list here once it is pushed
    #[arg(short, long, visible_alias = "rm")]
    purge: bool,
    /// The format of the list: OCI's, or Docker's schema 2
    #[arg(short, long, value_enum)]
    format: Option<Format>,
    /// Print the digest only
    #[arg(short, long)]
    quiet: bool,
    /// Write the digest of the pushed list to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryFlags,
}

impl Command for Push {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = self.registry.apply(context).engine()?;
        let destination: Location = self.destination.as_ref().unwrap_or(&self.list).parse()?;
        let media_type = self.format.map(|format| match format {
            Format::Oci => media_type::OCI_INDEX,
            Format::V2s2 => media_type::DOCKER_MANIFEST_LIST,
        });
        let options = PushListOptions { all: self.all, purge: self.purge, media_type };
        let progress = Progress::new(self.quiet);
        let pushed =
            engine.push_list(&self.list, &destination, &options, &|event| progress.observe(event))?;
        progress.finish();
        if let Some(file) = &self.digestfile {
            std::fs::write(file, pushed.as_str())
                .map_err(|error| Failure::message(format!("cannot write {}: {error}", file.display())))?;
        }
        print_line(pushed)?;
        Ok(0)
    }
}
