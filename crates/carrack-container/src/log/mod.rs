//! The logs of containers: their output as Docker's `json-file` driver writes it, so that its readers read ours.
//!
//! One line of JSON per line of output: `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.678Z"}`. An
//! entry without `\n` at the end of its text continues in the next entry of the same stream: output without a line
//! end is cut every 16 KiB. Bytes that are not UTF-8 become U+FFFD, as JSON cannot carry them.

mod cursor;
mod reader;
mod writer;

pub use reader::{Entry, Selection, read};
pub use writer::{LogWriter, Rotation};

use serde::{Deserialize, Serialize};

/// Where output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The file that was the log `age` rotations ago.
fn rotated(path: &std::path::Path, age: u32) -> std::path::PathBuf {
    match age {
        0 => path.to_owned(),
        _ => {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{age}"));
            name.into()
        }
    }
}
