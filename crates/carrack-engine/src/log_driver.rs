//! Log drivers: which options each has, and the sink that they make.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use carrack_container::log::{JOURNAL_SOCKET, JournalWriter, LogFormat, LogSink, LogWriter, Rotation};
use carrack_container::{ContainerRecord, LogDriver, LogSettings};

use crate::settings::ContainerSettings;
use crate::{Engine, Error, Result};

/// The options of files.
const FILE_OPTIONS: [&str; 3] = ["max-file", "max-size", "path"];
/// The options that add something to each entry.
const ENTRY_OPTIONS: [&str; 3] = ["env", "labels", "tag"];

/// Options of a log driver, read.
struct LogOptions {
    rotation: Rotation,
    path: Option<PathBuf>,
}

impl LogOptions {
    fn read(log: &LogSettings, settings: &ContainerSettings) -> Result<Self> {
        let known: Vec<_> = match log.driver {
            LogDriver::JsonFile => FILE_OPTIONS.into_iter().chain(ENTRY_OPTIONS).collect(),
            LogDriver::K8sFile => FILE_OPTIONS.to_vec(),
            LogDriver::Journald => ENTRY_OPTIONS.to_vec(),
            LogDriver::None | LogDriver::Passthrough => Vec::new(),
        };
        let mut options = Self {
            rotation: Rotation { max_bytes: settings.log_max_size, max_files: settings.log_max_files },
            path: None,
        };
        for (name, value) in &log.options {
            let refuse = |expected: &str| {
                let message = format!("invalid --log-opt {name}={value}: expected {expected}");
                Err(Error::refused(message, ""))
            };
            if !known.contains(&name.as_str()) {
                let driver = log.driver.name();
                let message = format!("unknown log option {name:?} of the log driver {driver}");
                let hint = match known.is_empty() {
                    true => format!("the driver {driver} has no options"),
                    false => format!("it has {}", known.join(", ")),
                };
                return Err(Error::refused(message, hint));
            }
            match name.as_str() {
                // Docker's text for a log that is never rotated.
                "max-size" if value == "-1" => options.rotation.max_bytes = u64::MAX,
                "max-size" => match bytes(value) {
                    Some(bytes) if bytes > 0 => options.rotation.max_bytes = bytes,
                    _ => return refuse("a size as in 10m, or -1"),
                },
                "max-file" => match value.parse() {
                    Ok(files @ 1..) => options.rotation.max_files = files,
                    _ => return refuse("a number of files, 1 or more"),
                },
                "path" if !value.starts_with('/') => return refuse("an absolute path"),
                "path" => options.path = Some(PathBuf::from(value)),
                _ => {}
            }
        }
        Ok(options)
    }
}

/// A size in Docker's binary units.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let unit = lower.trim_end_matches('b').trim_end_matches('i');
    let (digits, power) = match unit.chars().last()? {
        'k' => (&unit[..unit.len() - 1], 10),
        'm' => (&unit[..unit.len() - 1], 20),
        'g' => (&unit[..unit.len() - 1], 30),
        _ => (unit, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << power)
}

impl Engine {
    /// Refuses what the driver does not know, and a driver that cannot work here.
    pub(crate) fn check_log(&self, record: &ContainerRecord) -> Result<()> {
        let log = &record.host.lifecycle.log;
        LogOptions::read(log, &self.environment.settings.containers)?;
        match log.driver {
            LogDriver::Journald if !Path::new(JOURNAL_SOCKET).exists() => Err(Error::refused(
                format!(
                    "the log driver journald needs systemd's journal at {JOURNAL_SOCKET}, which is not there"
                ),
                "use another one: --log-driver json-file",
            )),
            LogDriver::Passthrough if record.program.tty => {
                Err(Error::refused("the log driver passthrough has no terminal to give", "leave --tty out"))
            }
            _ => Ok(()),
        }
    }

    /// The file that the container's output is kept in; `None` where its driver has none.
    pub(crate) fn log_file(&self, record: &ContainerRecord) -> Option<PathBuf> {
        let log = &record.host.lifecycle.log;
        match log.driver {
            LogDriver::JsonFile | LogDriver::K8sFile => {
                let chosen = log.options.get("path").map(PathBuf::from);
                Some(chosen.unwrap_or_else(|| self.containers.log_path(&record.id)))
            }
            LogDriver::Journald | LogDriver::None | LogDriver::Passthrough => None,
        }
    }

    /// Opens what the container's output is kept in.
    pub(crate) fn open_log(&self, record: &ContainerRecord) -> Result<Option<LogSink>> {
        let log = &record.host.lifecycle.log;
        let options = LogOptions::read(log, &self.environment.settings.containers)?;
        let format = match log.driver {
            LogDriver::JsonFile => LogFormat::Json(entry_attributes(record)),
            LogDriver::K8sFile => LogFormat::Kubernetes,
            LogDriver::Journald => {
                let writer = JournalWriter::open(Path::new(JOURNAL_SOCKET), &journal_fields(record))?;
                return Ok(Some(LogSink::Journal(writer)));
            }
            LogDriver::None | LogDriver::Passthrough => return Ok(None),
        };
        let Some(path) = self.log_file(record) else { return Ok(None) };
        let writer = match record.is_ephemeral() {
            true => LogWriter::deferred(&path, options.rotation, &format),
            false => LogWriter::open(&path, options.rotation, &format)?,
        };
        Ok(Some(LogSink::File(writer)))
    }
}

/// What the options `labels`, `env` and `tag` add to each entry.
pub(crate) fn entry_attributes(record: &ContainerRecord) -> BTreeMap<String, String> {
    let options = &record.host.lifecycle.log.options;
    let names = |option: &str| -> Vec<String> {
        let text = options.get(option).map_or("", String::as_str);
        text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let mut attributes = BTreeMap::new();
    for name in names("labels") {
        attributes.extend(record.labels.get(&name).map(|value| (name.clone(), value.clone())));
    }
    for name in names("env") {
        let entries = record.program.env.iter().filter_map(|entry| entry.split_once('='));
        let value = entries.rev().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned());
        attributes.extend(value.map(|value| (name, value)));
    }
    attributes.extend(options.get("tag").map(|tag| ("tag".to_owned(), expand_tag(tag, record))));
    attributes
}

/// Docker's fields of a tag.
fn expand_tag(tag: &str, record: &ContainerRecord) -> String {
    let image_id = record.image_id.to_string();
    let fields = [
        ("{{.ID}}", record.id.short()),
        ("{{.FullID}}", record.id.as_str()),
        ("{{.Name}}", record.name.as_str()),
        ("{{.ImageName}}", &record.image),
        ("{{.ImageFullID}}", &image_id),
        ("{{.DaemonName}}", "carrack"),
    ];
    fields.iter().fold(tag.to_owned(), |text, (field, value)| text.replace(field, value))
}

/// The fields that Docker gives each entry, and those of the options in capitals.
fn journal_fields(record: &ContainerRecord) -> Vec<(String, String)> {
    let attributes = entry_attributes(record);
    let tag = attributes.get("tag").cloned().unwrap_or_else(|| record.id.short().to_owned());
    let mut fields: Vec<_> = [
        ("CONTAINER_ID", record.id.short()),
        ("CONTAINER_ID_FULL", record.id.as_str()),
        ("CONTAINER_NAME", record.name.as_str()),
        ("CONTAINER_TAG", &tag),
        ("IMAGE_NAME", &record.image),
        ("SYSLOG_IDENTIFIER", &tag),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let is_of_field = |symbol: char| symbol.is_ascii_uppercase() || symbol.is_ascii_digit() || symbol == '_';
    for (name, value) in attributes.into_iter().filter(|(name, _)| name != "tag") {
        let name: String = name
            .to_ascii_uppercase()
            .chars()
            .map(|symbol| if is_of_field(symbol) { symbol } else { '_' })
            .collect();
        // The journal takes no field that begins so: its own do.
        let name = name.trim_start_matches(|symbol: char| symbol == '_' || symbol.is_ascii_digit());
        if !name.is_empty() {
            fields.push((name.chars().take(64).collect(), value));
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(driver: LogDriver, options: &[(&str, &str)]) -> LogSettings {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        LogSettings { driver, options: options.collect() }
    }

    #[test]
    fn options_are_read_and_what_is_unknown_is_refused() {
        let settings = ContainerSettings::default();
        let read = |driver, options: &[(&str, &str)]| LogOptions::read(&log(driver, options), &settings);
        let options = read(LogDriver::JsonFile, &[("max-size", "2m"), ("max-file", "4")]).unwrap();
        assert_eq!(options.rotation, Rotation { max_bytes: 2 << 20, max_files: 4 });
        let default = read(LogDriver::K8sFile, &[]).unwrap().rotation;
        assert_eq!(default, Rotation { max_bytes: 10 << 20, max_files: 3 }, "rotation is on by default");
        let endless = read(LogDriver::K8sFile, &[("max-size", "-1")]).unwrap();
        assert_eq!(endless.rotation.max_bytes, u64::MAX);
        for (driver, name, value) in [
            (LogDriver::JsonFile, "max-size", "0"),
            (LogDriver::JsonFile, "max-size", "ten"),
            (LogDriver::JsonFile, "max-size", "99999999999g"),
            (LogDriver::JsonFile, "max-file", "0"),
            (LogDriver::JsonFile, "path", "relative"),
            (LogDriver::JsonFile, "nonsense", "1"),
            (LogDriver::K8sFile, "labels", "a"),
            (LogDriver::Journald, "max-size", "1m"),
            (LogDriver::None, "max-size", "1m"),
        ] {
            assert!(read(driver, &[(name, value)]).is_err(), "{name}={value} was accepted");
        }
    }
}
