//! `carrack container exists`

use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;

/// Ends with 0 when the container is there, with 1 when it is not, and with 125 when that cannot be told.
#[derive(Args)]
pub struct Exists {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Command for Exists {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine().map_err(crate::failure::Failure::of_run)?;
        match engine.find_container(&self.container) {
            Ok(_) => Ok(0),
            Err(error) if error.is_no_such_container() => Ok(1),
            Err(error) => Err(crate::failure::Failure::from(error).of_run()),
        }
    }
}
