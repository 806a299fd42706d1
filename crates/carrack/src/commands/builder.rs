//! `carrack builder prune`

use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

/// Deletes the build cache; images stay.
#[derive(Args)]
pub struct Prune {
    /// Accepted for Docker's sake: carrack does not ask
    #[arg(short = 'f', long = "force")]
    _force: bool,
    /// Accepted for Docker's sake: carrack always deletes all of it
    #[arg(short = 'a', long = "all")]
    _all: bool,
}

impl Command for Prune {
    fn run(self, context: &Context) -> Result<u8> {
        let removed = context.engine()?.prune_build_cache()?;
        print_line(format_args!("Deleted build cache entries: {removed}"))?;
        Ok(0)
    }
}
