//! `carrack healthcheck`

use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack healthcheck run web";

/// Checks the health of a running container now. The exit code is 0 when it is well, 1 when it is not.
#[derive(Args)]
pub struct Run {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Command for Run {
    fn run(self, context: &Context) -> Result<u8> {
        let is_well = context.engine()?.check_health(&self.container)?;
        if !is_well {
            print_line("unhealthy")?;
        }
        Ok(u8::from(!is_well))
    }
}
