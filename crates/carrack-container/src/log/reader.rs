//! Reading logs, also while they grow.
//!
//! Invariant: when following ends, everything that was written before the container stopped has been given out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use carrack_sys::IoContext;
use jiff::Timestamp;
use serde::Deserialize;

use super::Stream;
use super::cursor::Cursor;
use crate::watch::Watch;
use crate::{Error, Result};

/// How soon following notices that a container has stopped without writing anything.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Entry<'a> {
    /// The text, with its line end if it has one.
    #[serde(borrow)]
    pub log: Cow<'a, str>,
    /// Where it was written to.
    pub stream: Stream,
    /// What the container's log options add to each entry.
    #[serde(default)]
    pub attrs: BTreeMap<String, String>,
    /// When it was read.
    pub time: Timestamp,
}

impl<'a> Entry<'a> {
    /// Reads a line of a log, whose form tells its format; `None` when it has neither.
    fn parse(line: &'a [u8]) -> Option<Self> {
        if line.starts_with(b"{") {
            return serde_json::from_slice(line).ok();
        }
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let stream = match fields.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        // Further tags may follow the first, as in `F:tag`.
        let tag = fields.next()?.first().copied()?;
        let text = fields.next()?;
        let text = if tag == b'P' { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
        Some(Self { log: String::from_utf8_lossy(text), stream, attrs: BTreeMap::new(), time })
    }
}

/// Which entries are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only the last so many entries.
    pub tail: Option<usize>,
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// Nothing newer.
    pub until: Option<Timestamp>,
}

/// Gives the entries of the log at `path` to `sink`, oldest first.
///
/// With `still_running`, stays for what comes and returns once that is false and everything is read. A log that does
/// not exist is empty. Lines that are not entries are left out. An error of `sink` ends the reading.
pub fn read(
    path: &Path,
    selection: &Selection,
    still_running: Option<&dyn Fn() -> bool>,
    sink: &mut dyn FnMut(&Entry<'_>) -> io::Result<()>,
) -> Result<()> {
    let watch = still_running.map(|_| Watch::new(path.parent().unwrap_or(Path::new("/"))));
    let mut cursor = None;
    loop {
        // Asked before reading: what is written until the answer turns false is read after it.
        let last_pass = still_running.is_none_or(|still_running| !still_running())
            || selection.until.is_some_and(|until| until < Timestamp::now());
        if cursor.is_none() {
            cursor = Cursor::open(path, selection.tail).during("read", path)?;
        }
        if let Some(cursor) = &mut cursor
            && read_available(cursor, path, selection, sink)? == Progress::PastTheEnd
        {
            return Ok(());
        }
        match &watch {
            Some(watch) if !last_pass => watch.wait(None, LOOK_AGAIN),
            _ => return Ok(()),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Progress {
    Waiting,
    PastTheEnd,
}

fn read_available(
    cursor: &mut Cursor,
    path: &Path,
    selection: &Selection,
    sink: &mut dyn FnMut(&Entry<'_>) -> io::Result<()>,
) -> Result<Progress> {
    while let Some(line) = cursor.next().during("read", path)? {
        let Some(entry) = Entry::parse(line) else { continue };
        if selection.until.is_some_and(|until| entry.time > until) {
            return Ok(Progress::PastTheEnd);
        }
        if selection.since.is_none_or(|since| entry.time >= since) {
            sink(&entry).map_err(|source| Error::Output { source })?;
        }
    }
    Ok(Progress::Waiting)
}
