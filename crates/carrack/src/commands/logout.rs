//! `carrack logout`

use std::path::PathBuf;

use clap::Args;

use super::Command;
use super::login::DEFAULT_REGISTRY;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

/// Forgets the credentials of a registry.
#[derive(Args)]
pub struct Logout {
    /// HOST[:PORT] of the registry
    #[arg(value_name = "REGISTRY", default_value = DEFAULT_REGISTRY)]
    registry: String,
    /// File that the credentials are kept in
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

impl Command for Logout {
    fn run(self, context: &Context) -> Result<u8> {
        let was_there = context.with_auth_file(self.authfile).engine()?.logout(&self.registry)?;
        let registry = &self.registry;
        match was_there {
            true => print_line(format_args!("Removed login credentials for {registry}"))?,
            false => print_line(format_args!("Not logged in to {registry}"))?,
        }
        Ok(0)
    }
}
