//! The log that a caller asks for with `--log`: one message a line, as text or as JSON with runc's fields.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::failure::{Failure, Result};

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// logfmt, as runc's.
    Text,
    /// One object a line.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected text or json".to_owned()),
        }
    }
}

/// Where messages go.
#[derive(Clone, Debug)]
pub struct Log {
    file: Option<PathBuf>,
    format: Format,
}

impl Log {
    /// Nothing is opened yet.
    pub fn new(file: Option<PathBuf>, format: Format) -> Self {
        Self { file, format }
    }

    /// Takes the messages of all libraries from now on.
    pub fn start(&self, debug: bool) -> Result<()> {
        if let Some(file) = &self.file {
            self.open().map_err(|error| {
                Failure::message(format!("cannot open the log {}: {error}", file.display()))
            })?;
        }
        let level = if debug { Level::DEBUG } else { Level::WARN };
        let log = self.clone();
        let writer = move || -> Box<dyn Write> {
            match log.open() {
                Ok(Some(file)) => Box::new(file),
                _ => Box::new(io::stderr()),
            }
        };
        let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(writer);
        builder.event_format(Lines(self.format)).init();
        Ok(())
    }

    /// Notes why the command fails. Standard error has it as well; no file, nothing to do.
    pub fn error(&self, message: &str) {
        if let Ok(Some(mut file)) = self.open() {
            let _ = file.write_all(line(self.format, "error", message).as_bytes());
        }
    }

    fn open(&self) -> io::Result<Option<File>> {
        let options = || File::options().append(true).create(true).clone();
        self.file.as_ref().map(|path| options().open(path)).transpose()
    }
}

struct Lines(Format);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            _ => "debug",
        };
        let mut message = Message(String::new());
        event.record(&mut message);
        writer.write_str(&line(self.0, level, &message.0))
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write as _;
        let separator = if self.0.is_empty() { "" } else { " " };
        let _ = match field.name() {
            "message" => write!(self.0, "{separator}{value:?}"),
            name => write!(self.0, "{separator}{name}={value:?}"),
        };
    }
}

fn line(format: Format, level: &str, message: &str) -> String {
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    match format {
        Format::Json => format!("{}\n", json!({ "level": level, "msg": message, "time": time })),
        Format::Text => format!("time=\"{time}\" level={level} msg={}\n", json!(message)),
    }
}
