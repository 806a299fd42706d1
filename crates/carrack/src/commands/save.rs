//! `carrack save`

use std::path::PathBuf;

use carrack_engine::{Output, SaveFormat, SaveRequest, SaveTarget};
use carrack_oci::Platform;
use clap::{Args, ValueEnum};

use super::Command;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::standard_output;
use crate::progress::Progress;

pub const EXAMPLES: &str = "Examples:
  carrack save --output app.tar registry.example/team/app:1.2 busybox
  carrack save app | zstd > app.tar.zst
  carrack save --format oci-archive --output app.tar app";

/// Saves images to an archive, by default in Docker's format and to standard output. A name without a tag means all
/// tags of the repository.
#[derive(Args)]
pub struct Save {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Write to this file, or folder for the formats of folders
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What the images are saved as
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive")]
    format: Format,
    /// Which of the platforms that are here
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Take every name as an image, as is always done here; for scripts written for podman
    #[arg(short, long)]
    multi_image_archive: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    DockerArchive,
    OciArchive,
    OciDir,
    DockerDir,
}

impl Format {
    fn of_engine(self) -> SaveFormat {
        match self {
            Self::DockerArchive => SaveFormat::DockerArchive,
            Self::OciArchive => SaveFormat::OciArchive,
            Self::OciDir => SaveFormat::OciDir,
            Self::DockerDir => SaveFormat::DockerDir,
        }
    }
}

impl Command for Save {
    fn run(self, context: &Context) -> Result<u8> {
        let target = match (self.format, self.output) {
            (Format::OciDir | Format::DockerDir, Some(folder)) => SaveTarget::Folder(folder),
            (Format::OciDir | Format::DockerDir, None) => {
                return Err(Failure::message("a format of a folder needs --output"));
            }
            (_, Some(file)) if file.is_dir() => {
                let message = format!("cannot save to {}: expected a file, got a folder", file.display());
                return Err(Failure::message(message));
            }
            (_, Some(file)) => {
                SaveTarget::Archive(Output::create(&file).map_err(carrack_engine::Error::from)?)
            }
            (_, None) => SaveTarget::Archive(standard_output("save")?),
        };
        let engine = context.engine()?;
        let progress = Progress::new(self.quiet);
        let request = SaveRequest {
            images: self.images,
            format: self.format.of_engine(),
            platform: self.platform,
            target,
        };
        engine.save(request, &|event| progress.observe(event))?;
        progress.finish();
        Ok(0)
    }
}
