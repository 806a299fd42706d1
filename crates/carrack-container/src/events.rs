//! The log of events: what happened to containers and images, for whoever watches.
//!
//! Invariant: each event is one whole line, written under a lock by whoever did the thing, commands and monitors
//! alike; the log never grows beyond two files. It survives a reboot but is not synced, so that a loss of power may take
//! the newest events, and no operation fails because of it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use carrack_sys::IoContext;
use carrack_sys::atomic::{self, Durability};
use carrack_sys::lock::Lock;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::log::Cursor;
use crate::watch::Watch;
use crate::{Error, Result};

/// The size at which a new file is begun; the one before is kept.
const MAX_BYTES: u64 = 4 << 20;
/// The longest event; one with more attributes is kept without them.
const MAX_EVENT_BYTES: usize = 64 << 10;
/// How soon a follower looks at the time and at who wants it to stop.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A container.
    Container,
    /// An image.
    Image,
}

impl EventKind {
    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifeEvent {
    /// When.
    pub time: Timestamp,
    /// To what kind of thing.
    pub kind: EventKind,
    /// What, in Docker's words: `start`, `die`, `pull` ...
    pub action: String,
    /// The id of the thing.
    pub id: String,
    /// What else is known of it.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// Which events are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventSpan {
    /// The oldest; `None` with `follow` means those to come, else all that are kept.
    pub since: Option<Timestamp>,
    /// The newest.
    pub until: Option<Timestamp>,
    /// Whether to wait for those to come, up to `until`.
    pub follow: bool,
}

/// The log of one run folder.
#[derive(Clone, Debug)]
pub struct EventLog {
    folder: PathBuf,
}

impl EventLog {
    /// The log below `root`; its folder is made when it is written to or followed.
    pub fn new(root: &Path) -> Self {
        Self { folder: root.join("events") }
    }

    /// Adds an event.
    pub fn write(&self, event: &LifeEvent) -> Result<()> {
        let mut line = to_line(event);
        if line.len() > MAX_EVENT_BYTES {
            line = to_line(&LifeEvent { attributes: BTreeMap::new(), ..event.clone() });
        }
        let _lock = match Lock::exclusive(&self.folder.join("lock")) {
            Err(error) if error.is_not_found() => {
                atomic::create_private_dir(&self.folder)?;
                Lock::exclusive(&self.folder.join("lock"))?
            }
            lock => lock?,
        };
        let path = self.path();
        let mut file = open(&path)?;
        let mut size = file.metadata().during("examine", &path)?.len();
        if size > 0 && size + line.len() as u64 > MAX_BYTES {
            let older = self.folder.join("log.1");
            fs::rename(&path, &older).during("rename to", &older)?;
            (file, size) = (open(&path)?, 0);
        }
        if !ends_with_line(&file, size) {
            line.insert(0, b'\n');
        }
        if let Err(error) = file.write_all(&line) {
            // A part of a line would spoil the next one.
            let _ = file.set_len(size);
            return Ok(Err(error).during("write", &path)?);
        }
        Ok(())
    }

    /// Gives events to `sink`, oldest first. An error of `sink` ends the reading.
    pub fn read(
        &self,
        span: EventSpan,
        sink: &mut dyn FnMut(&LifeEvent) -> std::io::Result<()>,
    ) -> Result<()> {
        let path = self.path();
        let is_over = || span.until.is_some_and(|until| until < Timestamp::now());
        let watch = match span.follow {
            true => {
                atomic::create_private_dir(&self.folder)?;
                Some(Watch::new(&self.folder))
            }
            false => None,
        };
        let tail = (span.follow && span.since.is_none()).then_some(0);
        let mut cursor = Cursor::open(&path, tail).during("read", &path)?;
        loop {
            // Asked before reading: what is written until the end is read after it.
            let last_pass = watch.is_none() || is_over();
            if cursor.is_none() {
                cursor = Cursor::open(&path, None).during("read", &path)?;
            }
            while let Some(cursor) = &mut cursor
                && let Some(line) = cursor.next().during("read", &path)?
            {
                let Ok(event) = serde_json::from_slice::<LifeEvent>(line) else { continue };
                if span.since.is_none_or(|since| event.time >= since)
                    && span.until.is_none_or(|until| event.time <= until)
                {
                    sink(&event).map_err(|source| Error::Output { source })?;
                }
            }
            match &watch {
                Some(watch) if !last_pass => {
                    let left = span.until.map(|until| until.duration_since(Timestamp::now()));
                    let left = left.and_then(|left| Duration::try_from(left).ok()).unwrap_or(LOOK_AGAIN);
                    watch.wait(None, left.min(LOOK_AGAIN));
                }
                _ => return Ok(()),
            }
        }
    }

    /// How many lines are no events; readers pass them over.
    pub fn damaged_lines(&self) -> Result<usize> {
        if !self.folder.exists() {
            return Ok(0);
        }
        let _lock = Lock::exclusive(&self.folder.join("lock"))?;
        self.files().iter().try_fold(0, |count, path| Ok(count + sound_lines(path)?.1))
    }

    /// Takes away the lines that are no events.
    pub fn repair(&self) -> Result<()> {
        let _lock = Lock::exclusive(&self.folder.join("lock"))?;
        for path in self.files() {
            let (sound, damaged) = sound_lines(&path)?;
            if damaged > 0 {
                atomic::write(&path, &sound, 0o600, Durability::Volatile)?;
            }
        }
        Ok(())
    }

    fn files(&self) -> [PathBuf; 2] {
        [self.path(), self.folder.join("log.1")]
    }

    fn path(&self) -> PathBuf {
        self.folder.join("log")
    }
}

/// The lines of a file that are events, and how many are not. A file that is longer than one can become is cut.
fn sound_lines(path: &Path) -> Result<(Vec<u8>, usize)> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        file => {
            file.during("open", path)?.take(2 * MAX_BYTES).read_to_end(&mut bytes).during("read", path)?;
        }
    }
    let (mut sound, mut damaged) = (Vec::with_capacity(bytes.len()), 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match line.ends_with(b"\n") && serde_json::from_slice::<LifeEvent>(line).is_ok() {
            true => sound.extend_from_slice(line),
            false => damaged += 1,
        }
    }
    Ok((sound, damaged))
}

fn to_line(event: &LifeEvent) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).expect("an event has string keys only");
    line.push(b'\n');
    line
}

fn open(path: &Path) -> Result<File> {
    Ok(OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).during("open", path)?)
}

/// A loss of power may leave a part of a line, which would spoil the next one.
fn ends_with_line(file: &File, size: u64) -> bool {
    let mut last = [0];
    size == 0 || (file.read_at(&mut last, size - 1).is_ok_and(|length| length == 1) && last == *b"\n")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn event(action: &str) -> LifeEvent {
        LifeEvent {
            time: Timestamp::now(),
            kind: EventKind::Container,
            action: action.to_owned(),
            id: "abc".to_owned(),
            attributes: BTreeMap::from([("name".to_owned(), "web".to_owned())]),
        }
    }

    fn read(log: &EventLog, span: EventSpan) -> Vec<String> {
        let mut actions = Vec::new();
        log.read(span, &mut |event| {
            actions.push(event.action.clone());
            Ok(())
        })
        .unwrap();
        actions
    }

    #[test]
    fn lines_that_are_no_events_are_counted_and_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let log = EventLog::new(folder.path());
        assert_eq!(log.damaged_lines().unwrap(), 0);
        log.write(&event("one")).unwrap();
        let path = folder.path().join("events/log");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"\x00\x00\n{\"time\":1}\n").unwrap();
        log.write(&event("two")).unwrap();
        file.write_all(b"{\"time\"").unwrap();
        assert_eq!(log.damaged_lines().unwrap(), 3);
        log.repair().unwrap();
        assert_eq!(log.damaged_lines().unwrap(), 0);
        assert_eq!(read(&log, EventSpan::default()), ["one", "two"]);
    }

    #[test]
    fn events_of_many_writers_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let log = EventLog::new(folder.path());
        assert_eq!(read(&log, EventSpan::default()), Vec::<String>::new());
        thread::scope(|scope| {
            for writer in 0..4 {
                let log = &log;
                scope.spawn(move || {
                    (0..200).for_each(|n| log.write(&event(&format!("{writer}-{n}"))).unwrap());
                });
            }
        });
        let actions = read(&log, EventSpan::default());
        assert_eq!(actions.len(), 800);
        for writer in 0..4 {
            let own: Vec<_> =
                actions.iter().filter(|action| action.starts_with(&format!("{writer}-"))).collect();
            assert!(own.iter().enumerate().all(|(n, action)| **action == format!("{writer}-{n}")));
        }
    }

    #[test]
    fn the_log_is_bounded_and_loses_the_oldest() {
        let folder = tempfile::tempdir().unwrap();
        let log = EventLog::new(folder.path());
        let mut long = event("long");
        long.attributes.insert("text".into(), "x".repeat(50 << 10));
        (0..200).for_each(|_| log.write(&long).unwrap());
        log.write(&event("last")).unwrap();
        let files: u64 = fs::read_dir(folder.path().join("events"))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(files <= 2 * MAX_BYTES, "{files} bytes");
        let actions = read(&log, EventSpan::default());
        assert!(actions.len() > 80 && actions.len() < 200, "{}", actions.len());
        assert_eq!(actions.last().unwrap(), "last");
        long.attributes.insert("more".into(), "x".repeat(50 << 10));
        log.write(&long).unwrap();
        log.read(EventSpan::default(), &mut |event| {
            assert!(event.attributes.len() < 3, "what is too long goes without attributes");
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_torn_line_costs_itself_alone() {
        let folder = tempfile::tempdir().unwrap();
        let log = EventLog::new(folder.path());
        log.write(&event("one")).unwrap();
        let mut file = OpenOptions::new().append(true).open(folder.path().join("events/log")).unwrap();
        file.write_all(b"{\"time\": \0\0").unwrap();
        log.write(&event("two")).unwrap();
        assert_eq!(read(&log, EventSpan::default()), ["one", "two"]);
    }

    #[test]
    fn spans_and_following() {
        let folder = tempfile::tempdir().unwrap();
        let log = EventLog::new(folder.path());
        log.write(&event("old")).unwrap();
        let middle = Timestamp::now();
        log.write(&event("new")).unwrap();
        assert_eq!(read(&log, EventSpan { since: Some(middle), ..EventSpan::default() }), ["new"]);
        assert_eq!(read(&log, EventSpan { until: Some(middle), ..EventSpan::default() }), ["old"]);
        let (send, receive) = mpsc::channel();
        thread::scope(|scope| {
            let follower = log.clone();
            scope.spawn(move || {
                let span = EventSpan { since: Some(middle), follow: true, until: None };
                let _ = follower.read(span, &mut |event| {
                    send.send(event.action.clone()).unwrap();
                    if event.action == "stop" { Err(std::io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
                });
            });
            assert_eq!(receive.recv().unwrap(), "new");
            log.write(&event("later")).unwrap();
            assert_eq!(receive.recv().unwrap(), "later");
            log.write(&event("stop")).unwrap();
        });
    }
}
