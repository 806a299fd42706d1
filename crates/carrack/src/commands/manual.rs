//! `carrack manual`

use std::path::PathBuf;

use clap::Args;

use super::Command;
use crate::cli;
use crate::context::Context;
use crate::failure::{Failure, Result};

/// Writes a manual page for each command (`carrack-run.1` ...) into a folder.
#[derive(Args)]
pub struct Manual {
    /// The folder; it is made where it does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Command for Manual {
    fn run(self, _context: &Context) -> Result<u8> {
        let failed = |error| {
            Failure::message(format!("cannot write manual pages to {}: {error}", self.folder.display()))
        };
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        let mut parser = cli::parser();
        parser.build();
        clap_mangen::generate_to(parser, &self.folder).map_err(failed)?;
        Ok(0)
    }
}
