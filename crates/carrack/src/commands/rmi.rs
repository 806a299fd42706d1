//! `carrack rmi`

use std::collections::BTreeSet;

use carrack_engine::{Engine, RemoveOptions, Removed};
use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack rmi app:1.2
  carrack rmi --force 3f1c2a
  carrack rmi --all";

/// Removes images: their names, and with the last name all that nothing else uses.
#[derive(Args)]
pub struct Rmi {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required_unless_present = "all", conflicts_with = "all")]
    images: Vec<String>,
    /// Remove every image
    #[arg(short, long)]
    all: bool,
    /// Remove an image that was given by ID with all its names, and one that the log of another name has; an image
    /// that is not here is no failure
    #[arg(short, long)]
    force: bool,
    /// An image that is not here is no failure, and not reported
    #[arg(short, long)]
    ignore: bool,
    /// Leave the layers that nothing names any more to a later removal
    #[arg(long)]
    no_prune: bool,
}

impl Command for Rmi {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let images = if self.all { all_ids(&engine)? } else { self.images };
        let options = RemoveOptions { force: self.force || self.all, no_prune: self.no_prune };
        let mut exit_code = 0;
        let mut printed = Ok(());
        engine.remove_images(&images, &options, &mut |result| match result {
            Ok(removed) => {
                let print = || removed.iter().try_for_each(|removed| print_line(line(removed)));
                printed = std::mem::replace(&mut printed, Ok(())).and_then(|()| print());
            }
            Err(error) if error.is_no_such_image() && self.ignore => {}
            Err(error) => {
                // As with Docker, --force still says what was not there.
                if !(self.force && error.is_no_such_image()) {
                    exit_code = 1;
                }
                Failure::from(error).report();
            }
        })?;
        printed.map(|()| exit_code)
    }
}

/// What was removed, in Docker's words.
fn line(removed: &Removed) -> String {
    match removed {
        Removed::Untagged(name) => format!("Untagged: {name}"),
        Removed::Deleted(id) => format!("Deleted: {id}"),
    }
}

fn all_ids(engine: &Engine) -> Result<Vec<String>> {
    let ids: BTreeSet<String> = engine.list_images()?.iter().map(|record| record.id().to_string()).collect();
    Ok(ids.into_iter().collect())
}
