//! `carrack push`

use std::path::{Path, PathBuf};

use carrack_engine::{Engine, Location, Method, PushCompression, PushOptions};
use carrack_oci::{Digest, Reference};
use clap::Args;

use super::Command;
use super::registry_flags::{ContentTrustFlag, RegistryFlags};
use crate::context::Context;
use crate::failure::{Failure, Result, invalid};
use crate::output::print_line;
use crate::progress::Progress;

pub const EXAMPLES: &str = "Examples:
  carrack push registry.example/team/app:1.2
  carrack push app registry.example/team/app:1.2
  carrack push --compression zstd:9 app registry.example/team/app:1.2-zstd
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
    /// How layers are compressed: gzip[:1-9], zstd[:1-22], or none. Without it, layers that were made here are
    /// compressed by gzip, and others stay as they are
    #[arg(long, visible_alias = "compression-format", value_name = "FORMAT[:LEVEL]")]
    compression: Option<String>,
    /// Level of the compression, as in --compression FORMAT:LEVEL
    #[arg(long, value_name = "LEVEL")]
    compression_level: Option<u32>,
    /// Compress layers that have another format than --compression anew, which changes the digest of the image;
    /// the default where --compression is given
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    force_compression: Option<bool>,
    /// Fail rather than change the digest of the image
    #[arg(long)]
    preserve_digests: bool,
    /// Print the digest only
    #[arg(short, long)]
    quiet: bool,
    /// Write the digest of the pushed manifest to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// Every tag of this repository that is here
    #[arg(short, long, conflicts_with_all = ["destination", "digestfile"])]
    all_tags: bool,
    #[command(flatten)]
    _content_trust: ContentTrustFlag,
    #[command(flatten)]
    registry: RegistryFlags,
}

impl Command for Push {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = self.registry.apply(context).engine()?;
        let compression = compression(self.compression.as_deref(), self.compression_level)?;
        let options = PushOptions {
            is_forced: self.force_compression.unwrap_or(compression.is_some()),
            compression,
            preserve_digests: self.preserve_digests,
        };
        if self.all_tags {
            for name in tags_here(&engine, &self.image)? {
                push_one(&engine, &name, &name.parse()?, &options, self.quiet)?;
            }
            return Ok(0);
        }
        let destination: Location = self.destination.as_ref().unwrap_or(&self.image).parse()?;
        let digest = push_one(&engine, &self.image, &destination, &options, self.quiet)?;
        write_digest(self.digestfile.as_deref(), &digest)?;
        Ok(0)
    }
}

fn push_one(
    engine: &Engine,
    image: &str,
    destination: &Location,
    options: &PushOptions,
    quiet: bool,
) -> Result<Digest> {
    let progress = Progress::new(quiet);
    let digest = engine.push(image, destination, options, &|event| progress.observe(event))?;
    progress.finish();
    match quiet {
        true => print_line(&digest)?,
        false => print_line(format_args!("{destination}: digest: {digest}"))?,
    }
    Ok(digest)
}

/// The names of a repository that images have here.
fn tags_here(engine: &Engine, text: &str) -> Result<Vec<String>> {
    let repository: Reference = text.parse()?;
    if repository.tag().is_some() || repository.digest().is_some() {
        return Err(invalid("--all-tags", text, "a repository without tag and digest"));
    }
    let is_meant = |name: &Reference| name.repository() == repository.repository() && name.tag().is_some();
    let names = engine.list_images()?.into_iter().filter_map(|record| record.reference);
    let names: Vec<String> = names.filter(is_meant).map(|name| name.to_string()).collect();
    match names.is_empty() {
        true => Err(Failure::message(format!("no image here has a tag of {}", repository.repository()))),
        false => Ok(names),
    }
}

fn compression(format: Option<&str>, level: Option<u32>) -> Result<Option<PushCompression>> {
    let format = match (format, level) {
        (None, None) => return Ok(None),
        (Some("none"), None) => return Ok(Some(PushCompression::None)),
        (Some("none"), Some(level)) => {
            return Err(invalid("--compression-level", &level.to_string(), "none with --compression none"));
        }
        (format, _) => format.unwrap_or("gzip"),
    };
    let refuse = |error: carrack_engine::MethodError| invalid("--compression", format, &error.to_string());
    let method: Method = format.parse().map_err(refuse)?;
    let is_exact_level = level.is_some() || format.contains(':');
    let method = level.map_or(Ok(method), |level| method.at_level(level)).map_err(refuse)?;
    Ok(Some(PushCompression::Method { method, is_exact_level }))
}

/// Writes the file of `--digestfile`.
pub fn write_digest(file: Option<&Path>, digest: &Digest) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, digest.as_str())
        .map_err(|error| Failure::message(format!("cannot write {}: {error}", file.display())))
}
