//! `carrack unpack`

use std::path::PathBuf;

use carrack_oci::Platform;
use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;

pub const EXAMPLES: &str = "Examples:
  carrack unpack busybox rootfs
  carrack unpack oci:layout:latest rootfs";

/// Unpacks an image into a folder, as a plain tree of files.
#[derive(Args)]
pub struct Unpack {
    /// Name or ID, or oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, dir:DIR
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The folder; it is made, or must be empty
    #[arg(value_name = "DEST")]
    destination: PathBuf,
    /// The platform to choose where a layout has several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
}

impl Command for Unpack {
    fn run(self, context: &Context) -> Result<u8> {
        let platform = self.platform.unwrap_or_else(Platform::host);
        context.engine()?.unpack(&self.image, &platform, &self.destination)?;
        Ok(0)
    }
}
