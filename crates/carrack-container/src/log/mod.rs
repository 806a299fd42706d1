//! The logs of containers: their output as Docker's `json-file` driver writes it, so that its readers read ours; or
//! as Kubernetes has it; or as entries of systemd's journal.
//!
//! One line of JSON per line of output: `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.678Z"}`. An
//! entry without `\n` at the end of its text continues in the next entry of the same stream: output without a line
//! end is cut every 16 KiB. Bytes that are not UTF-8 become U+FFFD, as JSON cannot carry them. `"attrs":{...}` may stand
//! before the time: what the user wants to know of each entry.
//!
//! Kubernetes: `2026-01-02T03:04:05.678Z stdout F text`, with `P` in place of `F` where the line goes on.

mod cursor;
mod journal;
mod journal_reader;
mod reader;
mod writer;

pub(crate) use cursor::Cursor;
pub use journal::{JOURNAL_SOCKET, JournalWriter};
pub use journal_reader::read_journal;
pub use reader::{Entry, Selection, read};
pub use writer::{LogFormat, LogWriter, Rotation};

use crate::Result;

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

impl Stream {
    /// The word for it in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Where the output of a container goes.
#[derive(Debug)]
pub enum LogSink {
    /// A file that is rotated.
    File(LogWriter),
    /// The journal.
    Journal(JournalWriter),
}

impl LogSink {
    /// Takes output as it was read.
    pub fn write(&mut self, stream: Stream, output: &[u8]) -> Result<()> {
        match self {
            Self::File(writer) => writer.write(stream, output),
            Self::Journal(writer) => writer.write(stream, output),
        }
    }

    /// Writes what a stream left without a line end.
    pub fn finish(&mut self, stream: Stream) -> Result<()> {
        match self {
            Self::File(writer) => writer.finish(stream),
            Self::Journal(writer) => writer.finish(stream),
        }
    }
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
