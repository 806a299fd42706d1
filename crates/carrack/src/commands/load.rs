//! `carrack load`

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::PathBuf;

use carrack_engine::{LoadInput, Loaded};
use carrack_oci::Platform;
use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::print_line;
use crate::progress::Progress;

pub const EXAMPLES: &str = "Examples:
  carrack load --input app.tar.gz
  ssh host carrack save app | carrack load
  carrack load --input ./oci-layout";

/// Loads every image of an archive that docker, podman, skopeo or carrack has written: plain or compressed by gzip,
/// zstd, bzip2 or xz, in Docker's or the OCI format; or of the folder of a layout.
#[derive(Args)]
pub struct Load {
    /// Read from this file or folder, in place of standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Which image, where one is for several platforms
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Print the loaded images only
    #[arg(short, long)]
    quiet: bool,
}

impl Command for Load {
    fn run(self, context: &Context) -> Result<u8> {
        let input = match self.input {
            Some(path) => LoadInput::Path(path),
            None => LoadInput::Stream(standard_input()?),
        };
        let progress = Progress::new(self.quiet);
        let platform = self.platform.unwrap_or_else(Platform::host);
        let loaded = context.engine()?.load(input, &platform, &|event| progress.observe(event))?;
        progress.finish();
        loaded.iter().try_for_each(print)?;
        Ok(0)
    }
}

fn standard_input() -> Result<File> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::message("requested load from stdin, but stdin is empty"));
    }
    let descriptor = stdin.as_fd().try_clone_to_owned();
    Ok(descriptor.map_err(|error| Failure::message(format!("cannot read standard input: {error}")))?.into())
}

/// Docker's words, which scripts look for.
fn print(loaded: &Loaded) -> Result<()> {
    for (name, id) in &loaded.displaced {
        let name = name.familiar();
        print_line(format_args!(
            "The image {name} already exists, renaming the old one with ID {id} to empty string"
        ))?;
    }
    if loaded.names.is_empty() {
        return print_line(format_args!("Loaded image ID: {}", loaded.id));
    }
    loaded.names.iter().try_for_each(|name| print_line(format_args!("Loaded image: {}", name.familiar())))
}
