//! `carrack rm`

use std::time::Duration;

use carrack_engine::{Engine, Error, Patience, StopWish};
use clap::Args;

use super::Command;
use super::selection::Selection;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack rm web
  carrack rm --force web
  carrack rm --force --all
  carrack rm --filter status=exited --filter label=team=sea";

/// Removes containers.
#[derive(Args)]
pub struct Rm {
    #[command(flatten)]
    selection: Selection,
    /// Kill the ones that are running
    #[arg(short, long)]
    force: bool,
    /// Do not mind containers that are not there
    #[arg(short, long)]
    ignore: bool,
    /// Remove the containers that need it too
    #[arg(long)]
    depend: bool,
    /// Ask running ones to end first, and kill them after so many seconds
    #[arg(short, long, value_name = "SECONDS", requires = "force")]
    time: Option<u64>,
    /// Remove the volumes that only it has
    #[arg(short, long)]
    volumes: bool,
}

impl Command for Rm {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let Self { selection, force, ignore, depend, time, .. } = self;
        let containers = selection.resolve(&engine, |_| true)?;
        // Docker's --force does not mind a container that is gone.
        let may_be_gone = |error: &Error| (force || ignore) && error.is_no_such_container();
        super::for_each(&containers, |container| {
            let remove = |name: &str| match remove(&engine, name, force, time) {
                Err(error) if may_be_gone(&error) => Ok(()),
                result => result.map_err(Failure::from).and_then(|()| print_line(name)),
            };
            if depend && let Ok(found) = engine.find_container(container) {
                for other in engine.dependents(&found)? {
                    remove(other.record.id.as_str())?;
                }
            }
            remove(container)
        })
    }
}

fn remove(engine: &Engine, name: &str, force: bool, time: Option<u64>) -> Result<(), Error> {
    if let Some(seconds) = time {
        let patience = Some(Patience::Limited(Duration::from_secs(seconds)));
        engine.stop(name, &StopWish { patience, ..StopWish::default() })?;
    }
    engine.remove_container(name, force)
}
