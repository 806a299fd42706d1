//! `carrack image exists`

use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;

/// Tells by the exit code whether an image is here: 0 when it is, 1 when it is not.
#[derive(Args)]
pub struct Exists {
    /// Name or ID
    #[arg(value_name = "IMAGE")]
    image: String,
}

impl Command for Exists {
    fn run(self, context: &Context) -> Result<u8> {
        match context.engine()?.find_image(&self.image) {
            Ok(_) => Ok(0),
            Err(error) if error.is_no_such_image() => Ok(1),
            Err(error) => Err(error.into()),
        }
    }
}
