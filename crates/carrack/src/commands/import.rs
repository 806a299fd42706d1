//! `carrack import`

use std::fs::File;
use std::io::Read;

use carrack_engine::ImportOptions;
use carrack_oci::{Platform, Reference};
use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::print_line;
use crate::progress::Progress;

pub const EXAMPLES: &str = "Examples:
  carrack import rootfs.tar.zst base:1
  mmdebstrap --variant=minbase bookworm - | carrack import - debian:bookworm
  carrack import --change 'CMD [\"/bin/sh\"]' https://server.example/rootfs.tar.gz base";

/// Makes an image of a tar of a root filesystem, plain or compressed by gzip, zstd, bzip2 or xz.
#[derive(Args)]
pub struct Import {
    /// A file, an http or https URL, or - for standard input
    #[arg(value_name = "FILE|URL|-")]
    source: String,
    /// The name of the new image
    #[arg(value_name = "REFERENCE")]
    reference: Option<Reference>,
    /// Apply a Dockerfile instruction to the image's config, as in 'CMD ["/bin/sh"]'
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Remark in the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// What the image runs on
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Print the image ID only
    #[arg(short, long)]
    quiet: bool,
}

impl Command for Import {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let source: Box<dyn Read + Send> = match self.source.as_str() {
            "-" => Box::new(std::io::stdin()),
            url if url.starts_with("http://") || url.starts_with("https://") => engine.open_url(url)?,
            path => Box::new(
                File::open(path).map_err(|error| Failure::message(format!("cannot open {path}: {error}")))?,
            ),
        };
        let options = ImportOptions {
            reference: self.reference,
            platform: self.platform.unwrap_or_else(Platform::host),
            message: self.message.unwrap_or_else(|| format!("Imported from {}", self.source)),
            changes: self.change,
        };
        let progress = Progress::new(self.quiet);
        let record = engine.import(source, &self.source, options, &|event| progress.observe(event))?;
        progress.finish();
        print_line(record.id())?;
        Ok(0)
    }
}
