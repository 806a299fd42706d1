//! A question before something is lost.

use std::io;

use crate::failure::{Failure, Result};
use crate::output::print;

/// Prints a warning and asks as Docker does; anything but yes ends the command with exit code 1.
pub fn confirm(warning: &str) -> Result<()> {
    print(format!("WARNING! {warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.map_err(|error| Failure::message(format!("cannot read the answer: {error}")))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::message("cancelled: nothing was removed")),
    }
}
