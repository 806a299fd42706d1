//! `carrack rm`

use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack rm web
  carrack rm --force web
  carrack rm --force --all";

/// Removes containers.
#[derive(Args)]
pub struct Rm {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required_unless_present = "all", conflicts_with = "all")]
    containers: Vec<String>,
    /// Kill the ones that are running
    #[arg(short, long)]
    force: bool,
    /// Remove volumes that were made for the container alone too
    #[arg(short, long)]
    volumes: bool,
    /// Remove every container
    #[arg(short, long)]
    all: bool,
}

impl Command for Rm {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let containers = match self.all {
            true => {
                engine.list_containers()?.iter().map(|container| container.record.id.to_string()).collect()
            }
            false => self.containers,
        };
        let remove = |container: &str| match self.volumes {
            true => engine.remove_container_with_volumes(container, self.force),
            false => engine.remove_container(container, self.force),
        };
        super::for_each(&containers, |container| match remove(container) {
            // Docker's --force does not mind a container that is gone.
            Err(error) if self.force && error.is_no_such_container() => Ok(()),
            result => result.map_err(Failure::from).and_then(|()| print_line(container)),
        })
    }
}
