//! `carrack copy`

use std::path::PathBuf;

use carrack_engine::{CopyOptions, Place};
use carrack_oci::Platform;
use clap::Args;

use super::Command;
use super::push::write_digest;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;
use crate::progress::Progress;

pub const EXAMPLES: &str = "Examples:
  carrack copy registry.example/app:1 other.example/app:1
  carrack copy --all docker://registry.example/app:1 oci:./layout:1
  carrack copy --platform linux/arm64 registry.example/app:1 docker-archive:./app.tar
  carrack copy oci-archive:./app.tar store:app:1";

/// Copies an image byte by byte, without unpacking it. Every digest stays.
#[derive(Args)]
pub struct Copy {
    /// A reference (or docker://REFERENCE), oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REFERENCE],
    /// dir:DIR, or store:IMAGE (also containers-storage:IMAGE) for the store of this machine
    #[arg(value_name = "SOURCE")]
    source: Place,
    /// The same
    #[arg(value_name = "DESTINATION")]
    destination: Place,
    /// Copy an index with the images of all its platforms
    #[arg(short, long)]
    all: bool,
    /// Which image of an index, as in linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with = "all")]
    platform: Option<Platform>,
    /// Fail rather than change the digest of an image of the store whose compressed layers cannot be had any more
    #[arg(long)]
    preserve_digests: bool,
    /// Print the digest only
    #[arg(short, long)]
    quiet: bool,
    /// Write the digest of the copied manifest or index to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// File with the credentials of registries
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

impl Command for Copy {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.with_auth_file(self.authfile).engine()?;
        let options = CopyOptions {
            is_all: self.all,
            platform: self.platform,
            preserve_digests: self.preserve_digests,
        };
        let progress = Progress::new(self.quiet);
        let observer = |event: carrack_engine::Event<'_>| progress.observe(event);
        let digest = engine.copy(&self.source, &self.destination, &options, &observer)?;
        progress.finish();
        write_digest(self.digestfile.as_deref(), &digest)?;
        match self.quiet {
            true => print_line(&digest)?,
            false => print_line(format_args!("{}: digest: {digest}", self.destination))?,
        }
        Ok(0)
    }
}
