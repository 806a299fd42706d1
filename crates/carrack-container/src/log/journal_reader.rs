//! Reading a container's entries back from the journal. The form of its files is systemd's own affair: its program
//! `journalctl` reads them, and gives entries in the export format (systemd's "Journal Export Formats").
//!
//! Invariant: only what a process of this user has written counts, so that no other user can add to a container's log;
//! memory is bounded whatever an entry holds.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use carrack_sys::IoContext;
use jiff::Timestamp;

use super::{Entry, Selection, Stream};
use crate::{Error, Result};

/// How soon following looks for more.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// The longest field that is read.
const MAX_FIELD_BYTES: u64 = 1 << 20;
/// Where journalctl is sought.
const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// Gives the entries of the container `id` to `sink`, oldest first, each with `attrs`. With `still_running`, stays for
/// what comes and returns once that is false and everything is read.
pub fn read_journal(
    id: &str,
    attrs: &BTreeMap<String, String>,
    selection: &Selection,
    still_running: Option<&dyn Fn() -> bool>,
    sink: &mut dyn FnMut(&Entry<'_>) -> io::Result<()>,
) -> Result<()> {
    let mut cursor = None;
    let mut tail = selection.tail;
    loop {
        // Asked before reading: what is written until the answer turns false is read after it.
        let last_pass = still_running.is_none_or(|still_running| !still_running())
            || selection.until.is_some_and(|until| until < Timestamp::now());
        sync();
        let mut entries = Entries::open(id, cursor.as_deref(), tail.take())?;
        while let Some(raw) = entries.next().during("read", "the journal")? {
            let entry = raw.entry(attrs);
            cursor = Some(raw.cursor);
            let is_wanted = selection.since.is_none_or(|since| entry.time >= since)
                && selection.until.is_none_or(|until| entry.time <= until);
            if is_wanted {
                sink(&entry).map_err(|source| Error::Output { source })?;
            }
        }
        entries.finish()?;
        if last_pass {
            return Ok(());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn journalctl() -> Command {
    let mut command = Command::new("journalctl");
    command.env_clear().env("PATH", PATH).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Waits until the journal has filed what was sent to it. One that cannot do so shows what it has.
fn sync() {
    let _ = journalctl().arg("--sync").stdout(Stdio::null()).status();
}

/// Entries as journalctl gives them.
struct Entries {
    child: Child,
    reader: BufReader<std::process::ChildStdout>,
}

/// What is known of one entry.
#[derive(Debug, Default, PartialEq, Eq)]
struct RawEntry {
    cursor: String,
    microseconds: i64,
    message: Vec<u8>,
    is_error: bool,
    is_partial: bool,
}

impl Entries {
    fn open(id: &str, cursor: Option<&str>, tail: Option<usize>) -> Result<Self> {
        let mut command = journalctl();
        command.args(["--quiet", "--no-pager", "--all", "--output=export"]);
        command.arg("--output-fields=MESSAGE,PRIORITY,CONTAINER_PARTIAL_MESSAGE");
        command.args(cursor.map(|cursor| format!("--after-cursor={cursor}")));
        command.args(tail.map(|lines| format!("--lines={lines}")));
        command.arg(format!("CONTAINER_ID_FULL={id}"));
        command.arg(format!("_UID={}", rustix::process::geteuid().as_raw()));
        let spawned = command.stdout(Stdio::piped()).spawn();
        let mut child = spawned.during("start", "journalctl, which reads the journal")?;
        let stdout = child.stdout.take().expect("it is piped");
        Ok(Self { child, reader: BufReader::new(stdout) })
    }

    fn next(&mut self) -> io::Result<Option<RawEntry>> {
        next_entry(&mut self.reader)
    }

    fn finish(mut self) -> Result<()> {
        let status = self.child.wait().during("wait for", "journalctl")?;
        let failed = || io::Error::other(format!("journalctl: {status}"));
        if status.success() { Ok(()) } else { Ok(Err(failed()).during("read", "the journal")?) }
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        // Of a reader that has gone before the end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads one entry: fields up to an empty line.
fn next_entry(reader: &mut impl BufRead) -> io::Result<Option<RawEntry>> {
    let mut entry = RawEntry::default();
    let mut is_empty = true;
    loop {
        let mut line = Vec::new();
        reader.by_ref().take(MAX_FIELD_BYTES).read_until(b'\n', &mut line)?;
        let Some(b'\n') = line.pop() else {
            return if is_empty && line.is_empty() {
                Ok(None)
            } else {
                Err(wrong("a field that does not end"))
            };
        };
        if line.is_empty() {
            return Ok(Some(entry));
        }
        is_empty = false;
        match line.iter().position(|byte| *byte == b'=') {
            Some(at) => entry.take(&line[..at], line[at + 1..].to_vec()),
            None => entry.take(&line, binary_value(reader)?),
        }
    }
}

/// A value with line ends or other control characters: its length, its bytes, a line end.
fn binary_value(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    reader.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_FIELD_BYTES {
        return Err(wrong("a field that is too long"));
    }
    let mut value = Vec::new();
    reader.by_ref().take(length + 1).read_to_end(&mut value)?;
    match value.pop() {
        Some(b'\n') if value.len() as u64 == length => Ok(value),
        _ => Err(wrong("a field that does not end")),
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("expected entries in the export format, got {what}"))
}

impl RawEntry {
    fn take(&mut self, name: &[u8], value: Vec<u8>) {
        let text = || String::from_utf8_lossy(&value).into_owned();
        match name {
            b"__CURSOR" => self.cursor = text(),
            b"__REALTIME_TIMESTAMP" => self.microseconds = text().parse().unwrap_or(0),
            b"PRIORITY" => self.is_error = value == b"3",
            b"CONTAINER_PARTIAL_MESSAGE" => self.is_partial = value == b"true",
            b"MESSAGE" => self.message = value,
            _ => {}
        }
    }

    fn entry(&self, attrs: &BTreeMap<String, String>) -> Entry<'static> {
        let mut text = String::from_utf8_lossy(&self.message).into_owned();
        if !self.is_partial {
            text.push('\n');
        }
        Entry {
            log: text.into(),
            stream: if self.is_error { Stream::Stderr } else { Stream::Stdout },
            attrs: attrs.clone(),
            time: Timestamp::from_microsecond(self.microseconds).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_with_values_of_both_forms() {
        let mut export =
            b"__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1795283365696981\nPRIORITY=3\nMESSAGE\n".to_vec();
        export.extend(5_u64.to_le_bytes());
        export.extend(
            b"a\n=\xffb\n_UID=0\n\n__CURSOR=s=1;i=3\nMESSAGE=rest=\nCONTAINER_PARTIAL_MESSAGE=true\n\n",
        );
        let mut reader = &export[..];
        let first = next_entry(&mut reader).unwrap().unwrap();
        assert_eq!((first.cursor.as_str(), first.message.as_slice()), ("s=1;i=2", &b"a\n=\xffb"[..]));
        let entry = first.entry(&BTreeMap::new());
        assert_eq!((entry.stream, &*entry.log), (Stream::Stderr, "a\n=\u{fffd}b\n"));
        assert_eq!(entry.time.as_microsecond(), 1_795_283_365_696_981);
        let second = next_entry(&mut reader).unwrap().unwrap().entry(&BTreeMap::new());
        assert_eq!((second.stream, &*second.log), (Stream::Stdout, "rest="));
        assert_eq!(next_entry(&mut reader).unwrap(), None);
    }

    #[test]
    fn what_is_no_entry_is_an_error() {
        let long = [b"MESSAGE\n", &u64::MAX.to_le_bytes()[..], b"x"].concat();
        let short = [b"MESSAGE\n", &3_u64.to_le_bytes()[..], b"ab"].concat();
        for text in [&b"MESSAGE=x"[..], b"MESSAGE\n\x01", &long, &short, &vec![b'x'; 2 << 20]] {
            assert!(next_entry(&mut &*text).is_err(), "{:?} was accepted", &text[..text.len().min(20)]);
        }
    }
}
