//! `carrack push`

use std::path::PathBuf;

use carrack_engine::Location;
use clap::Args;

use super::Command;
use super::registry_flags::RegistryFlags;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::print_line;
use crate::progress::Progress;

pub const EXAMPLES: &str = "Examples:
  carrack push registry.example/team/app:1.2
  carrack push app registry.example/team/app:1.2
  carrack push app oci:./layout:1.2
  carrack push app docker-archive:./app.tar";

/// Sends an image.
#[derive(Args)]
pub struct Push {
    /// The image: a name or ID
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Where to, when the image's own name does not say: a reference, oci:DIR[:TAG], oci-archive:FILE,
    /// docker-archive:FILE[:REFERENCE] or dir:DIR
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
    /// Print the digest only
    #[arg(short, long)]
    quiet: bool,
    /// Write the digest of the pushed manifest to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryFlags,
}

impl Command for Push {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = self.registry.apply(context).engine()?;
        let destination: Location = self.destination.as_ref().unwrap_or(&self.image).parse()?;
        let progress = Progress::new(self.quiet);
        let digest = engine.push(&self.image, &destination, &|event| progress.observe(event))?;
        progress.finish();
        if let Some(file) = &self.digestfile {
            std::fs::write(file, digest.as_str())
                .map_err(|error| Failure::message(format!("cannot write {}: {error}", file.display())))?;
        }
        match self.quiet {
            true => print_line(&digest)?,
            false => print_line(format_args!("{destination}: digest: {digest}"))?,
        }
        Ok(0)
    }
}
