//! `carrack export`

use std::path::PathBuf;

use carrack_engine::Output;
use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::standard_output;

pub const EXAMPLES: &str = "Examples:
  carrack export --output rootfs.tar web
  carrack export web | tar -t";

/// Writes the files of a container as a tar, to standard output by default; without what is mounted into it.
#[derive(Args)]
pub struct Export {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Write to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Command for Export {
    fn run(self, context: &Context) -> Result<u8> {
        let output = match &self.output {
            Some(file) => Output::create(file).map_err(carrack_engine::Error::from)?,
            None => standard_output("export")?,
        };
        context.engine()?.export(&self.container, output)?;
        Ok(0)
    }
}
