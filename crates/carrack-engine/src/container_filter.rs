//! Which containers a command is about: Docker's and podman's `--filter`, as data.
//!
//! A container passes when every kind of filter passes. Of several values of one kind one must fit; labels must all.

use std::collections::HashMap;

use carrack_container::{Container, MountPoint, MountSource, NetworkMode, Status};
use carrack_image::Image;
use carrack_oci::{DiffId, Digest};
use jiff::Timestamp;

use crate::image_filter::parse_time;
use crate::ports::{container_side, parse_exposed};
use crate::{Engine, Error, Result, network_text, status_text};

const KINDS: &str = "one of ancestor, before, exited, expose, health, id, is-task, label, label!, name, network, \
                     publish, since, status, until, volume";
const STATUSES: [&str; 8] =
    ["created", "initialized", "restarting", "running", "removing", "paused", "exited", "dead"];

/// The filters of one command.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerFilters {
    ids: Vec<String>,
    names: Vec<NamePattern>,
    labels: Vec<Label>,
    statuses: Vec<String>,
    exit_codes: Vec<i32>,
    ancestors: Vec<Ancestor>,
    networks: Vec<String>,
    volumes: Vec<String>,
    published: Vec<String>,
    exposed: Vec<String>,
    healths: Vec<String>,
    is_task: Option<bool>,
    /// Made before this time.
    before: Option<Timestamp>,
    /// Made after this time.
    since: Option<Timestamp>,
}

/// `label=KEY[=VALUE]`, or `label!=...`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Label {
    key: String,
    value: Option<String>,
    is_wanted: bool,
}

/// A part of a name; `^` and `$` stand for its ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamePattern {
    text: String,
    from_start: bool,
    to_end: bool,
}

/// An image: a container is made of it, or of one that was built on it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ancestor {
    id: Digest,
    layers: Vec<DiffId>,
}

impl NamePattern {
    fn parse(text: &str) -> Option<Self> {
        let (text, from_start) = text.strip_prefix('^').map_or((text, false), |rest| (rest, true));
        let (text, to_end) = text.strip_suffix('$').map_or((text, false), |rest| (rest, true));
        // Docker's names have a slash in front.
        let (text, from_start) = text.strip_prefix('/').map_or((text, from_start), |rest| (rest, true));
        let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        is_plain.then(|| Self { text: text.to_owned(), from_start, to_end })
    }

    fn matches(&self, name: &str) -> bool {
        match (self.from_start, self.to_end) {
            (true, true) => name == self.text,
            (true, false) => name.starts_with(&self.text),
            (false, true) => name.ends_with(&self.text),
            (false, false) => name.contains(&self.text),
        }
    }
}

impl ContainerFilters {
    fn add(&mut self, engine: &Engine, filter: &str) -> Result<()> {
        let refuse = |expected: &str| {
            Err(Error::refused(format!("invalid filter {filter:?}: expected {expected}"), ""))
        };
        let Some((key, value)) = filter.split_once('=') else { return refuse("KEY=VALUE") };
        match key {
            "id" => self.ids.push(value.to_owned()),
            "name" => match NamePattern::parse(value) {
                Some(pattern) => self.names.push(pattern),
                None => return refuse("a part of a name; ^ and $ stand for its ends"),
            },
            "label" | "label!" => {
                let (key_text, text) = value.split_once('=').map_or((value, None), |(k, v)| (k, Some(v)));
                let (key_text, text) = (key_text.to_owned(), text.map(str::to_owned));
                self.labels.push(Label { key: key_text, value: text, is_wanted: key == "label" });
            }
            "status" if STATUSES.contains(&value) => self.statuses.push(value.to_owned()),
            // Podman's words.
            "status" if value == "stopped" => self.statuses.push("exited".to_owned()),
            "status" if value == "configured" => self.statuses.push("created".to_owned()),
            "status" => return refuse(&format!("one of {}", STATUSES.join(", "))),
            "exited" => match value.parse() {
                Ok(code) => self.exit_codes.push(code),
                Err(_) => return refuse("an exit code"),
            },
            "ancestor" => self.ancestors.extend(engine.ancestor(value)?),
            "before" => self.made_before(engine.find_container(value)?.record.created),
            "since" | "after" => self.made_since(engine.find_container(value)?.record.created),
            "until" => match parse_time(value) {
                Some(time) => self.made_before(time),
                None => return refuse("a time as in 2026-11-21T12:00:00Z, or a duration as in 24h"),
            },
            "network" => self.networks.push(value.to_owned()),
            "volume" => self.volumes.push(value.to_owned()),
            "publish" => self.published.extend(parse_exposed(value)?),
            "expose" => self.exposed.extend(parse_exposed(value)?),
            "health" => match value {
                "none" | "starting" | "healthy" | "unhealthy" => self.healths.push(value.to_owned()),
                _ => return refuse("one of none, starting, healthy, unhealthy"),
            },
            "is-task" => match value {
                "true" | "1" => self.is_task = Some(true),
                "false" | "0" => self.is_task = Some(false),
                _ => return refuse("true or false"),
            },
            _ => return refuse(KINDS),
        }
        Ok(())
    }

    fn made_before(&mut self, time: Timestamp) {
        self.before = Some(self.before.map_or(time, |known| known.min(time)));
    }

    fn made_since(&mut self, time: Timestamp) {
        self.since = Some(self.since.map_or(time, |known| known.max(time)));
    }

    /// Whether a status is asked for: then containers that do not run are meant too.
    pub fn asks_for_status(&self) -> bool {
        !self.statuses.is_empty() || !self.exit_codes.is_empty()
    }

    /// What the container alone says.
    fn admits(&self, container: &Container) -> bool {
        let Container { record, state } = container;
        let one_of = |wanted: &[String], found: &dyn Fn(&str) -> bool| {
            wanted.is_empty() || wanted.iter().any(|value| found(value))
        };
        let network = &record.host.network;
        let has_exited = state.status == Status::Exited;
        let published: Vec<String> = network.ports.iter().map(container_side).collect();
        let is_network = |value: &str| match &network.mode {
            NetworkMode::Container(id) => id == value || network_text(&network.mode) == value,
            mode => network_text(mode) == value,
        };
        one_of(&self.ids, &|value| record.id.as_str().starts_with(value))
            && (self.names.is_empty() || self.names.iter().any(|name| name.matches(record.name.as_str())))
            && self.labels.iter().all(|label| label.admits(container))
            && one_of(&self.statuses, &|value| status_text(state.status) == value)
            && (self.exit_codes.is_empty()
                || has_exited && self.exit_codes.contains(&state.exit_code.unwrap_or(0)))
            && one_of(&self.networks, &is_network)
            && one_of(&self.volumes, &|value| has_mount(container, value))
            && one_of(&self.published, &|value| published.iter().any(|port| port == value))
            && one_of(&self.exposed, &|value| network.exposed.contains(value))
            && one_of(&self.healths, &|value| health_text(container) == value)
            && self.is_task != Some(true)
            && self.before.is_none_or(|before| record.created < before)
            && self.since.is_none_or(|since| record.created > since)
    }
}

impl Label {
    fn admits(&self, container: &Container) -> bool {
        let found = container.record.labels.get(&self.key);
        let is_there = found.is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found));
        is_there == self.is_wanted
    }
}

/// Whether the container has a mount of this source, at this place.
fn has_mount(container: &Container, wanted: &str) -> bool {
    let mounts = &container.record.host.mounts;
    let is_point = |point: &MountPoint| {
        let is_source = match &point.source {
            MountSource::Bind { path } => path.as_os_str() == wanted,
            _ => point.volume() == Some(wanted),
        };
        is_source || point.destination.as_os_str() == wanted
    };
    mounts.points.iter().any(is_point)
        || mounts.tmpfs.iter().any(|mount| mount.destination.as_os_str() == wanted)
}

/// The health in Docker's words.
fn health_text(container: &Container) -> &'static str {
    container.state.health.map_or("none", |health| health.status.name())
}

impl Engine {
    /// Reads filters of the form `KEY=VALUE`; containers that they name must be here.
    pub fn container_filters(&self, texts: &[String]) -> Result<ContainerFilters> {
        let mut filters = ContainerFilters::default();
        for text in texts {
            filters.add(self, text)?;
        }
        Ok(filters)
    }

    /// Those of `containers` that pass, in their order.
    pub fn filter_containers(
        &self,
        filters: &ContainerFilters,
        mut containers: Vec<Container>,
    ) -> Result<Vec<Container>> {
        containers.retain(|container| filters.admits(container));
        if filters.ancestors.is_empty() {
            return Ok(containers);
        }
        // Many containers are made of few images.
        let mut known: HashMap<Digest, bool> = HashMap::new();
        let mut passed = Vec::new();
        for container in containers {
            let id = container.record.image_id.clone();
            let fits = match known.get(&id) {
                Some(fits) => *fits,
                None => self.descends(&id, &filters.ancestors)?,
            };
            known.insert(id, fits);
            passed.extend(fits.then_some(container));
        }
        Ok(passed)
    }

    /// The image as an ancestor; none when it is not here, because then nothing here descends from it by name.
    fn ancestor(&self, name: &str) -> Result<Option<Ancestor>> {
        match self.images.find(name) {
            Ok(found) => {
                let image = Image::load(&self.content, &found.record.manifest)?;
                let layers = image.config.rootfs.diff_ids.clone();
                Ok(Some(Ancestor { id: image.id().clone(), layers }))
            }
            Err(carrack_image::Error::NotFound { .. }) => {
                let hint = "see them with carrack images";
                Err(Error::refused(format!("invalid filter: there is no image {name}"), hint))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn descends(&self, image: &Digest, ancestors: &[Ancestor]) -> Result<bool> {
        if ancestors.iter().any(|ancestor| ancestor.id == *image) {
            return Ok(true);
        }
        let found = match self.images.find(&image.to_string()) {
            Err(carrack_image::Error::NotFound { .. }) => return Ok(false),
            result => result?,
        };
        let image = Image::load(&self.content, &found.record.manifest)?;
        let layers = &image.config.rootfs.diff_ids;
        let is_below =
            |ancestor: &Ancestor| !ancestor.layers.is_empty() && layers.starts_with(&ancestor.layers);
        Ok(ancestors.iter().any(is_below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_may_be_anchored() {
        let matches = |pattern: &str, name: &str| NamePattern::parse(pattern).unwrap().matches(name);
        assert!(
            matches("eb", "web")
                && matches("^we", "web")
                && matches("eb$", "web")
                && matches("^/web$", "web")
        );
        assert!(!matches("^eb", "web") && !matches("we$", "web") && !matches("/eb", "web"));
        assert_eq!(NamePattern::parse("w.*b"), None, "it is no regular expression");
        assert_eq!(NamePattern::parse("[w]eb"), None);
    }
}
