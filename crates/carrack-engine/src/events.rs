//! Events: what operations tell whoever watches, in Docker's words, and reading them.

use std::collections::BTreeMap;
use std::io;

use carrack_container::events::{EventKind, EventLog, EventSpan, LifeEvent};
use carrack_container::{ContainerRecord, ContainerState};
use carrack_image::ImageRecord;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{Engine, Error, Result};

impl Engine {
    pub(crate) fn event_log(&self) -> EventLog {
        EventLog::new(&self.environment.paths.root)
    }

    fn emit(&self, kind: EventKind, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        let event = LifeEvent {
            time: Timestamp::now(),
            kind,
            action: action.to_owned(),
            id: id.to_owned(),
            attributes,
        };
        // What has been done is done, whether or not it can be told.
        if let Err(error) = self.event_log().write(&event) {
            tracing::debug!(%error, "an event was not written");
        }
    }

    /// Tells what happened to a container; `details` are told beside its name, image and labels.
    pub(crate) fn container_event(&self, record: &ContainerRecord, action: &str, details: &[(&str, String)]) {
        let mut attributes = record.labels.clone();
        attributes.insert("image".to_owned(), record.image.clone());
        attributes.insert("name".to_owned(), record.name.to_string());
        attributes.extend(details.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        self.emit(EventKind::Container, action, record.id.as_str(), attributes);
    }

    /// Tells how a container has ended.
    pub(crate) fn end_events(&self, record: &ContainerRecord, state: &ContainerState) {
        if state.oom_killed {
            self.container_event(record, "oom", &[]);
        }
        let seconds = match (state.started_at, state.finished_at) {
            (Some(started), Some(finished)) => finished.duration_since(started).as_secs().max(0),
            _ => 0,
        };
        let code = state.exit_code.unwrap_or(0);
        let details = [("execDuration", seconds.to_string()), ("exitCode", code.to_string())];
        self.container_event(record, "die", &details);
    }

    /// Tells what happened to an image; `name` is what it was called.
    pub(crate) fn image_event(&self, action: &str, id: &str, name: &str) {
        self.emit(EventKind::Image, action, id, BTreeMap::from([("name".to_owned(), name.to_owned())]));
    }

    /// Tells what happened to an image that has a record.
    pub(crate) fn record_event(&self, action: &str, record: &ImageRecord) {
        let name = record.reference.as_ref().map_or_else(|| record.id().to_string(), |name| name.familiar());
        self.image_event(action, record.id().as_str(), &name);
    }

    /// Gives events that pass `filters` to `sink`, oldest first.
    pub fn events(
        &self,
        span: EventSpan,
        filters: &EventFilters,
        sink: &mut dyn FnMut(&LifeEvent) -> io::Result<()>,
    ) -> Result<()> {
        let mut pass = |event: &LifeEvent| if filters.pass(event) { sink(event) } else { Ok(()) };
        Ok(self.event_log().read(span, &mut pass)?)
    }
}

/// An event as Docker's API shows it.
pub fn event_json(event: &LifeEvent) -> Value {
    let LifeEvent { time, kind, action, id, attributes } = event;
    let mut value = json!({
        "Type": kind.name(),
        "Action": action,
        "Actor": {"ID": id, "Attributes": attributes},
        "scope": "local",
        "time": time.as_second(),
        "timeNano": i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX),
    });
    add_podmans_fields(&mut value, event);
    // The fields of Docker's first version of events, which scripts still read.
    value["status"] = json!(action);
    value["id"] = json!(id);
    if let (EventKind::Container, Some(image)) = (kind, attributes.get("image")) {
        value["from"] = json!(image);
    }
    value
}

/// Docker's words for what podman has other words for.
const PODMANS_WORDS: [(&str, &str); 8] = [
    ("die", "died"),
    ("destroy", "remove"),
    ("exec_start", "exec"),
    ("exec_die", "exec_died"),
    ("detach", "detached"),
    ("load", "loadfromarchive"),
    ("delete", "remove"),
    ("archive-path", "copy"),
];

/// The fields by which templates that were written for podman name the same.
fn add_podmans_fields(value: &mut Value, event: &LifeEvent) {
    let (word, argument) = event.action.split_once(": ").unwrap_or((&event.action, ""));
    let podmans = PODMANS_WORDS.iter().find(|(docker, _)| *docker == word).map_or(word, |(_, podman)| podman);
    let attribute = |name: &str| event.attributes.get(name).cloned().unwrap_or_default();
    value["ID"] = json!(event.id);
    value["Name"] = json!(attribute("name"));
    value["Image"] = json!(attribute("image"));
    value["Status"] = json!(podmans);
    value["Attributes"] = json!(event.attributes);
    value["HealthStatus"] = json!(if word == "health_status" { argument } else { "" });
    value["ContainerExitCode"] = json!(attribute("exitCode").parse::<i32>().unwrap_or(0));
    value["TimeNano"] = value["timeNano"].clone();
    value["Time"] = value["time"].clone();
}

/// An event as Docker's line of text.
pub fn event_text(event: &LifeEvent) -> String {
    let LifeEvent { time, kind, action, id, attributes } = event;
    let attributes: Vec<_> = attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{time:.9} {} {action} {id} ({})", kind.name(), attributes.join(", "))
}

/// Which events are wanted: of several values of one key, one must fit; every key must.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilters {
    wanted: BTreeMap<String, Vec<String>>,
}

impl EventFilters {
    /// Reads filters of the form `KEY=VALUE`.
    pub fn parse(texts: &[String]) -> Result<Self> {
        let mut filters = Self::default();
        for text in texts {
            let refuse = |expected: &str| {
                Err(Error::refused(format!("invalid filter {text:?}: expected {expected}"), ""))
            };
            let Some((key, value)) = text.split_once('=') else { return refuse("KEY=VALUE") };
            match key {
                "type" if !matches!(value, "container" | "image") => {
                    return refuse("type=container or type=image");
                }
                "container" | "image" | "event" | "type" | "label" => {}
                _ => return refuse("one of container, image, event, type, label"),
            }
            filters.wanted.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        Ok(filters)
    }

    fn pass(&self, event: &LifeEvent) -> bool {
        let fits = |key: &str, value: &str| match key {
            "type" => event.kind.name() == value,
            // Docker's actions with an argument, as in `health_status: healthy`, are filtered by their word.
            "event" => {
                let word = event.action.split(':').next().unwrap_or_default();
                let is_podmans = PODMANS_WORDS.contains(&(word, value));
                event.action == value || word == value || is_podmans
            }
            "container" => event.kind == EventKind::Container && is_named(event, "name", value),
            "image" => match event.kind {
                EventKind::Image => is_named(event, "name", value),
                EventKind::Container => event.attributes.get("image").is_some_and(|image| image == value),
            },
            _ => {
                let (name, wanted) = value.split_once('=').map_or((value, None), |(n, v)| (n, Some(v)));
                event.attributes.get(name).is_some_and(|has| wanted.is_none_or(|wanted| has == wanted))
            }
        };
        // Every label must be there, as in Docker.
        self.wanted.iter().all(|(key, values)| match key.as_str() {
            "label" => values.iter().all(|value| fits(key, value)),
            _ => values.iter().any(|value| fits(key, value)),
        })
    }
}

/// Whether the event is about what `text` names: by name, id, or the begin of the id.
fn is_named(event: &LifeEvent, attribute: &str, text: &str) -> bool {
    let id = event.id.strip_prefix("sha256:").unwrap_or(&event.id);
    let text_id = text.strip_prefix("sha256:").unwrap_or(text);
    (!text_id.is_empty() && id.starts_with(text_id))
        || event.attributes.get(attribute).is_some_and(|name| name == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> LifeEvent {
        LifeEvent {
            time: "2026-11-21T12:00:00.5Z".parse().unwrap(),
            kind: EventKind::Container,
            action: "health_status: healthy".into(),
            id: "abcdef".into(),
            attributes: [("image", "app"), ("name", "web"), ("tier", "front")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        }
    }

    #[test]
    fn texts_are_those_of_docker() {
        let text = event_text(&event());
        let expected = "2026-11-21T12:00:00.500000000Z container health_status: healthy abcdef (image=app, name=web, tier=front)";
        assert_eq!(text, expected);
        let value = event_json(&event());
        assert_eq!((&value["from"], &value["Actor"]["ID"]), (&json!("app"), &json!("abcdef")));
        assert_eq!(value["timeNano"], json!(1_795_262_400_500_000_000_i64));
    }

    #[test]
    fn filters_of_one_key_are_alternatives_and_labels_are_not() {
        let passes = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
            EventFilters::parse(&texts).unwrap().pass(&event())
        };
        assert!(passes(&[]) && passes(&["container=web"]) && passes(&["container=abc", "type=container"]));
        assert!(passes(&["event=health_status"]) && passes(&["event=die", "event=health_status: healthy"]));
        assert!(!passes(&["event=die"]) && !passes(&["container=other"]) && !passes(&["type=image"]));
        assert!(passes(&["label=tier", "label=tier=front"]) && !passes(&["label=tier=front", "label=x"]));
        for text in ["container", "nonsense=1", "type=volume"] {
            assert!(EventFilters::parse(&[text.to_owned()]).is_err(), "{text} was accepted");
        }
    }
}
