//! The question before something is deleted, as Docker asks it.

use std::io::{self, BufRead};

use crate::failure::{Failure, Result};
use crate::output::print;

/// Says what will happen and asks; anything but `y` or `yes` is a no, the end of the input too.
pub fn confirm(what: &str) -> Result<bool> {
    print(format!("WARNING! {what}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::message(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
