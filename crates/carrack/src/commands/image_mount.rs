//! `carrack image mount`, `carrack image unmount`

use clap::Args;

use super::{Command, for_each};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  ls $(carrack image mount busybox)
  carrack image mount
  carrack image unmount busybox";

/// Mounts images read only and prints where; without a name, lists what is mounted.
#[derive(Args)]
pub struct Mount {
    /// Names or IDs
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

impl Command for Mount {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        if self.images.is_empty() {
            for image in engine.mounted_images()? {
                let name = image.name.unwrap_or_else(|| image.id.short().to_owned());
                print_line(format_args!("{name} {}", image.path.display()))?;
            }
            return Ok(0);
        }
        let several = self.images.len() > 1;
        for_each(&self.images, |name| {
            let path = engine.mount_image(name)?.path;
            match several {
                true => print_line(format_args!("{name} {}", path.display())),
                false => print_line(path.display()),
            }
        })
    }
}

/// Unmounts images that `image mount` has mounted, and prints their IDs.
#[derive(Args)]
pub struct Unmount {
    /// Names or IDs
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// All that are mounted
    #[arg(short, long)]
    all: bool,
}

impl Command for Unmount {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        if self.all != self.images.is_empty() {
            return Err(Failure::message("expected names of images, or --all"));
        }
        let mut images = self.images;
        if self.all {
            images = engine.mounted_images()?.iter().map(|image| image.id.to_string()).collect();
        }
        for_each(&images, |name| print_line(engine.unmount_image(name)?))
    }
}
