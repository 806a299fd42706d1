//! Which images a listing or a prune is about: Docker's and podman's `--filter`, as data.

use carrack_build::name_matches;
use carrack_image::{Image, ImageRecord};
use carrack_oci::Reference;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::{Engine, Error, Result};

/// The filters of one command: an image passes when every kind passes; of several names or IDs one must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFilters {
    dangling: Option<bool>,
    readonly: Option<bool>,
    in_use: Option<bool>,
    references: Vec<String>,
    ids: Vec<String>,
    labels: Vec<Label>,
    /// Made before this second, by what the image says.
    before: Option<i64>,
    /// Made after this second.
    since: Option<i64>,
}

/// `label=KEY[=VALUE]`, or `label!=...`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Label {
    key: String,
    value: Option<String>,
    is_wanted: bool,
}

impl ImageFilters {
    /// The filter that only a pattern of names makes, as the argument of `images` does.
    pub fn add_reference(&mut self, pattern: &str) {
        self.references.push(pattern.to_owned());
    }

    fn add(&mut self, engine: &Engine, filter: &str) -> Result<()> {
        let refuse = |expected: &str| {
            Err(Error::refused(format!("invalid filter {filter:?}: expected {expected}"), ""))
        };
        let Some((key, value)) = filter.split_once('=') else { return refuse("KEY=VALUE") };
        let truth = match value {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        };
        let is_truth = matches!(key, "dangling" | "readonly" | "containers");
        if is_truth && truth.is_none() {
            return refuse("true or false");
        }
        match key {
            "dangling" => self.dangling = truth,
            "readonly" => self.readonly = truth,
            "containers" => self.in_use = truth,
            "reference" if name_matches(value, "").is_err() => return refuse("a pattern as in app:1.*"),
            "reference" => self.references.push(value.to_owned()),
            "id" => self.ids.push(value.strip_prefix("sha256:").unwrap_or(value).to_owned()),
            "label" | "label!" => self.labels.push(Label::new(value, key == "label")),
            "before" => self.made_before(engine.images.find(value)?.record.created_unix),
            "since" | "after" => {
                let created = engine.images.find(value)?.record.created_unix;
                self.since = Some(self.since.map_or(created, |known| known.max(created)));
            }
            "until" => match parse_time(value) {
                Some(time) => self.made_before(time.as_second()),
                None => return refuse("a time as in 2026-11-21T12:00:00Z, or a duration as in 24h"),
            },
            _ => {
                return refuse(
                    "one of dangling, label, label!, before, since, until, reference, id, readonly, containers",
                );
            }
        }
        Ok(())
    }

    fn made_before(&mut self, second: i64) {
        self.before = Some(self.before.map_or(second, |known| known.min(second)));
    }

    /// What the record alone says.
    fn admits(&self, record: &ImageRecord) -> bool {
        let name_fits = |name: &Reference| self.references.iter().any(|pattern| is_named(pattern, name));
        self.dangling.is_none_or(|wanted| wanted == record.reference.is_none())
            // Every image here can be changed: there are no further, read-only stores.
            && self.readonly != Some(true)
            && (self.references.is_empty() || record.reference.as_ref().is_some_and(name_fits))
            && (self.ids.is_empty() || self.ids.iter().any(|id| record.id().hex().starts_with(id)))
            && self.before.is_none_or(|before| record.created_unix < before)
            && self.since.is_none_or(|since| record.created_unix > since)
    }
}

impl Label {
    fn new(text: &str, is_wanted: bool) -> Self {
        let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
        Self { key: key.to_owned(), value: value.map(str::to_owned), is_wanted }
    }

    fn admits(&self, image: &Image) -> bool {
        let labels = image.config.config.labels.as_ref();
        let found = labels.and_then(|labels| labels.get(&self.key));
        let is_there = found.is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found));
        is_there == self.is_wanted
    }
}

/// Whether a pattern means a name, in its short or its full form, with or without the tag. As in Docker, `*` does
/// not take a `/`.
fn is_named(pattern: &str, name: &Reference) -> bool {
    let forms =
        [name.familiar(), name.familiar_repository(), name.to_string(), name.repository().to_string()];
    let matches = |form: &String| form == pattern || name_matches(pattern, form).unwrap_or(false);
    forms.iter().any(matches)
}

/// A time as Docker takes it: RFC 3339, the same without a zone or with less than its minutes (which is local then), as
/// seconds since 1970 with or without a fraction, or as a duration before now.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    if let Some(time) = seconds(text) {
        return Some(time);
    }
    if let Some(time) = local_time(text) {
        return Some(time);
    }
    let ago = text.parse::<SignedDuration>().ok()?;
    Timestamp::now().checked_sub(ago).ok()
}

/// Seconds since 1970, and up to nine digits of a fraction.
fn seconds(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_right = fraction.len() <= 9 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let nanoseconds = format!("{fraction:0<9}").parse().ok().filter(|_| is_right)?;
    Timestamp::new(whole.parse().ok()?, nanoseconds).ok()
}

/// A time without a zone, in which seconds, minutes and hours may be missing; `Z` is the zone at most.
fn local_time(text: &str) -> Option<Timestamp> {
    let (text, zone) = match text.strip_suffix('Z') {
        Some(text) => (text, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    let civil = match text.split_once('T') {
        None => text.parse::<Date>().ok()?.at(0, 0, 0, 0),
        Some((date, hour)) if hour.len() == 2 => date.parse::<Date>().ok()?.at(hour.parse().ok()?, 0, 0, 0),
        Some(_) => text.parse::<DateTime>().ok()?,
    };
    civil.to_zoned(zone).ok().map(|zoned| zoned.timestamp())
}

impl Engine {
    /// Reads filters of the form `KEY=VALUE`; images that they name must be here.
    pub fn image_filters(&self, texts: &[String]) -> Result<ImageFilters> {
        let mut filters = ImageFilters::default();
        for text in texts {
            filters.add(self, text)?;
        }
        Ok(filters)
    }

    /// The image records that pass, by name.
    pub fn filter_images(&self, filters: &ImageFilters) -> Result<Vec<ImageRecord>> {
        let used = match filters.in_use {
            None => None,
            Some(wanted) => Some((self.images_in_use()?, wanted)),
        };
        let mut passed = Vec::new();
        for record in self.images.list()? {
            let is_used = used.as_ref().is_none_or(|(ids, wanted)| ids.contains_key(record.id()) == *wanted);
            if filters.admits(&record) && is_used && self.labels_admit(filters, &record)? {
                passed.push(record);
            }
        }
        Ok(passed)
    }

    fn labels_admit(&self, filters: &ImageFilters, record: &ImageRecord) -> Result<bool> {
        if filters.labels.is_empty() {
            return Ok(true);
        }
        let image = Image::load(&self.content, &record.manifest)?;
        Ok(filters.labels.iter().all(|label| label.admits(&image)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_short_and_full_names() {
        let name: Reference = "docker.io/library/app:1.2".parse().unwrap();
        for pattern in ["app", "app:1.2", "app:*", "a*", "*:1.2", "docker.io/library/app", "docker.io/*/app"]
        {
            assert!(is_named(pattern, &name), "{pattern}");
        }
        for pattern in ["app:1.3", "docker.io/*", "ap", "*/app"] {
            assert!(!is_named(pattern, &name), "{pattern}");
        }
    }

    #[test]
    fn reads_times() {
        assert_eq!(parse_time("1970-01-01T00:01:00Z").unwrap().as_second(), 60);
        assert_eq!(parse_time("60").unwrap().as_second(), 60);
        assert_eq!(parse_time("60.25").unwrap().as_millisecond(), 60_250);
        assert_eq!(parse_time("1970-01-02Z").unwrap().as_second(), 86_400);
        assert_eq!(parse_time("1970-01-02T01Z").unwrap().as_second(), 90_000);
        assert_eq!(parse_time("1970-01-02T01:01Z").unwrap().as_second(), 90_060);
        let local =
            |text: &str| parse_time(text).unwrap().to_zoned(TimeZone::system()).datetime().to_string();
        assert_eq!(local("2024-06-01"), "2024-06-01T00:00:00");
        assert_eq!(local("2024-06-01T10:00"), "2024-06-01T10:00:00");
        assert_eq!(local("2024-06-01T10:00:30.5"), "2024-06-01T10:00:30.5");
        assert_eq!(parse_time("60.x"), None);
        assert!(parse_time("24h").unwrap() < Timestamp::now());
        assert_eq!(parse_time("yesterday"), None);
    }
}
