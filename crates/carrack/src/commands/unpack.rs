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
    /// Leave every file to the user who unpacks, whomever the image says
    #[arg(long)]
    rootless: bool,
}

impl Command for Unpack {
    fn run(self, context: &Context) -> Result<u8> {
        let platform = self.platform.unwrap_or_else(Platform::host);
        let owner =
            self.rootless.then(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
        context.engine()?.unpack(&self.image, &platform, &self.destination, owner)?;
        Ok(0)
    }
}
