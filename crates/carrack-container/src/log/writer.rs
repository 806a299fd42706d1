//! Writing logs.
//!
//! Invariant: the file ends with a whole entry whenever a call returns; memory does not grow with the output.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::atomic::create_private_dir;
use jiff::Timestamp;

use super::{Stream, rotated};
use crate::Result;

/// Output without a line end is cut into entries of this size, as Docker does.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// Entries are written in batches of about this size.
const BATCH_BYTES: usize = 64 * 1024;

/// When logs are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The size at which a new file is begun.
    pub max_bytes: u64,
    /// How many files are kept, the current one among them; at least 1.
    pub max_files: u32,
}

impl Default for Rotation {
    /// 3 files of 10 MiB.
    fn default() -> Self {
        Self { max_bytes: 10 << 20, max_files: 3 }
    }
}

/// How an entry is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Docker's lines of JSON, each with these attributes.
    Json(BTreeMap<String, String>),
    /// Kubernetes' lines of text.
    Kubernetes,
}

impl Default for LogFormat {
    fn default() -> Self {
        Self::Json(BTreeMap::new())
    }
}

/// The one writer of a container's log.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    style: Style,
    /// `None` until there is something to write.
    file: Option<File>,
    size_bytes: u64,
    rotation: Rotation,
    /// Lines that have not ended, by stream; each shorter than [`MAX_LINE_BYTES`].
    unfinished: [Vec<u8>; 2],
    batch: Vec<u8>,
    /// The time of the batch, as it stands in an entry.
    time: String,
}

/// The format, as far as it can be prepared.
#[derive(Debug)]
enum Style {
    /// With what stands between the stream and the time.
    Json(Vec<u8>),
    Kubernetes,
}

impl LogWriter {
    /// Opens the log at `path` to append to it; cuts off an entry that a crash left half-written.
    pub fn open(path: &Path, rotation: Rotation, format: &LogFormat) -> Result<Self> {
        let mut writer = Self::deferred(path, rotation, format);
        writer.file()?;
        Ok(writer)
    }

    /// Opens the log, and makes its folder, when there is something to write: a container that is removed when it ends,
    /// and that says nothing, needs none.
    pub fn deferred(path: &Path, rotation: Rotation, format: &LogFormat) -> Self {
        let style = match format {
            LogFormat::Json(attributes) if attributes.is_empty() => Style::Json(Vec::new()),
            LogFormat::Json(attributes) => {
                let attributes = serde_json::to_string(attributes).expect("a map of texts has string keys");
                Style::Json(format!(",\"attrs\":{attributes}").into_bytes())
            }
            LogFormat::Kubernetes => Style::Kubernetes,
        };
        Self {
            path: path.to_owned(),
            style,
            file: None,
            size_bytes: 0,
            rotation,
            unfinished: [Vec::new(), Vec::new()],
            batch: Vec::new(),
            time: String::new(),
        }
    }

    /// The file at its end.
    fn file(&mut self) -> Result<&mut File> {
        if self.file.is_none() {
            let path = &self.path;
            create_private_dir(path.parent().unwrap_or(path))?;
            let mut file = open(path, false)?;
            self.size_bytes = end_of_last_entry(&mut file).during("read", path)?;
            file.set_len(self.size_bytes).during("truncate", path)?;
            self.file = Some(file);
        }
        Ok(self.file.as_mut().expect("it was opened above"))
    }

    /// Takes output as it was read. After an error the entries of this call may be lost; the writer stays usable.
    pub fn write(&mut self, stream: Stream, output: &[u8]) -> Result<()> {
        self.time = Timestamp::now().to_string();
        for piece in output.split_inclusive(|byte| *byte == b'\n') {
            self.take(stream, piece)?;
        }
        self.flush()
    }

    /// Writes what a stream left without a line end.
    pub fn finish(&mut self, stream: Stream) -> Result<()> {
        let rest = std::mem::take(&mut self.unfinished[stream as usize]);
        if rest.is_empty() {
            return Ok(());
        }
        self.time = Timestamp::now().to_string();
        self.entry(stream, &rest)?;
        self.flush()
    }

    /// Takes a piece of one line.
    fn take(&mut self, stream: Stream, mut piece: &[u8]) -> Result<()> {
        let mut line = std::mem::take(&mut self.unfinished[stream as usize]);
        while line.len() + text_length(piece) >= MAX_LINE_BYTES {
            let (head, tail) = piece.split_at(MAX_LINE_BYTES - line.len());
            line.extend_from_slice(head);
            let cut = last_character_boundary(&line);
            self.entry(stream, &line[..cut])?;
            line.drain(..cut);
            piece = tail;
        }
        if piece.ends_with(b"\n") {
            match line.is_empty() {
                true => self.entry(stream, piece)?,
                false => {
                    line.extend_from_slice(piece);
                    self.entry(stream, &line)?;
                    line.clear();
                }
            }
        } else {
            line.extend_from_slice(piece);
        }
        self.unfinished[stream as usize] = line;
        Ok(())
    }

    fn entry(&mut self, stream: Stream, text: &[u8]) -> Result<()> {
        let batch = &mut self.batch;
        let mut add = |parts: &[&[u8]]| parts.iter().for_each(|part| batch.extend_from_slice(part));
        let (time, stream) = (self.time.as_bytes(), stream.name().as_bytes());
        match &self.style {
            Style::Json(attributes) => {
                add(&[b"{\"log\":"]);
                serde_json::to_writer(&mut *batch, &*String::from_utf8_lossy(text))
                    .map_err(std::io::Error::from)
                    .during("encode output for", &self.path)?;
                let parts: [&[u8]; 7] =
                    [b",\"stream\":\"", stream, b"\"", attributes, b",\"time\":\"", time, b"\"}\n"];
                parts.iter().for_each(|part| batch.extend_from_slice(part));
            }
            Style::Kubernetes => match text.strip_suffix(b"\n") {
                Some(line) => add(&[time, b" ", stream, b" F ", line, b"\n"]),
                None => add(&[time, b" ", stream, b" P ", text, b"\n"]),
            },
        }
        let full = BATCH_BYTES.min(usize::try_from(self.rotation.max_bytes).unwrap_or(usize::MAX));
        if self.batch.len() >= full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let written = self.write_batch();
        self.batch.clear();
        // Bounded: the next batch may never be as large as this one was.
        self.batch.shrink_to(2 * BATCH_BYTES);
        written
    }

    fn write_batch(&mut self) -> Result<()> {
        let bytes = self.batch.len() as u64;
        self.file()?;
        if self.size_bytes > 0 && self.size_bytes + bytes > self.rotation.max_bytes {
            self.rotate()?;
        }
        let file = self.file.as_mut().expect("it is open");
        if let Err(error) = file.write_all(&self.batch) {
            // No space: the half entry would make the next one unreadable.
            let _ = file.set_len(self.size_bytes);
            return Ok(Err(error).during("write", &self.path)?);
        }
        self.size_bytes += bytes;
        Ok(())
    }

    /// Begins a new file. Readers follow by inode, and rely on the oldest file being moved first.
    fn rotate(&mut self) -> Result<()> {
        for age in (0..self.rotation.max_files.saturating_sub(1)).rev() {
            let path = rotated(&self.path, age);
            match fs::rename(&path, rotated(&self.path, age + 1)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                renamed => renamed.during("rotate", &path)?,
            }
        }
        if self.rotation.max_files <= 1 {
            carrack_sys::atomic::remove_file(&self.path)?;
        }
        self.file = Some(open(&self.path, true)?);
        self.size_bytes = 0;
        Ok(())
    }
}

fn open(path: &Path, new: bool) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).create_new(new).mode(0o600);
    Ok(options.open(path).during("open", path)?)
}

/// The bytes of a piece without its line end.
fn text_length(piece: &[u8]) -> usize {
    piece.strip_suffix(b"\n").unwrap_or(piece).len()
}

/// Where to cut a long line: not inside a UTF-8 character that would be whole without the cut.
fn last_character_boundary(line: &[u8]) -> usize {
    let tail = &line[line.len().saturating_sub(3)..];
    let start_of_character = tail.iter().rposition(|byte| *byte >= 0xc0);
    let Some(start) = start_of_character else { return line.len() };
    let needed = match tail[start] {
        0xf0.. => 4,
        0xe0.. => 3,
        _ => 2,
    };
    let present = tail.len() - start;
    if present < needed { line.len() - present } else { line.len() }
}

/// The offset behind the last line end.
fn end_of_last_entry(file: &mut File) -> std::io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = [0u8; 4096];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let block = &mut block[..usize::try_from(end - start).expect("at most a block")];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        if let Some(position) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + position as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
