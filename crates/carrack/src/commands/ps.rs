//! `carrack ps`

use carrack_engine::{
    Container, Engine, HealthStatus, MountSource, NetworkMode, Status, container_side, network_text,
    port_text, status_text,
};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Columns, print, print_line, print_list_with};
use crate::units;

pub const EXAMPLES: &str = "Examples:
  carrack ps
  carrack ps --all --filter status=exited --filter label=team=sea
  carrack ps --format '{{.Names}} {{.Status}} {{.Ports}}'
  carrack rm $(carrack ps -aq)";

const COLUMNS: Columns = &[
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
];
const COLUMNS_WITH_SIZE: Columns = &[
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
    ("SIZE", "Size"),
];

/// What a template and `json` know of a container.
const FIELDS: [&str; 17] = [
    "ID",
    "Image",
    "Command",
    "CreatedAt",
    "RunningFor",
    "Status",
    "State",
    "Ports",
    "Names",
    "Labels",
    "LocalVolumes",
    "Mounts",
    "Networks",
    "Platform",
    "Size",
    "Pid",
    "ExitCode",
];

/// Lists containers: the running ones, or all.
#[derive(Args)]
pub struct Ps {
    /// Show containers that do not run too
    #[arg(short, long)]
    all: bool,
    /// Show only containers that this is true of, as in status=exited, name=web, label=team=sea
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print IDs only
    #[arg(short, long)]
    quiet: bool,
    /// Show the container that was created last
    #[arg(short, long)]
    latest: bool,
    /// Show this many containers, the ones that were created last; -1 for no limit
    #[arg(short = 'n', long, value_name = "NUMBER", allow_negative_numbers = true)]
    last: Option<i64>,
    /// Print full IDs and commands
    #[arg(long)]
    no_trunc: bool,
    /// Measure what each takes on disk, alone and with its image
    #[arg(short, long)]
    size: bool,
    /// What the list is sorted by; by default the newest comes first
    #[arg(long, value_name = "FIELD")]
    sort: Option<Order>,
    /// Leave out the headings
    #[arg(long)]
    noheading: bool,
    /// table, json, or a Go template for each container
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// What a list is sorted by.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    Command,
    Created,
    Id,
    Image,
    Names,
    #[value(name = "runningfor")]
    RunningFor,
    Size,
    Status,
}

impl Command for Ps {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let mut containers = self.choose(&engine)?;
        if self.quiet && !matches!(self.sort, Some(Order::Size)) {
            self.sort_containers(&mut containers);
            let ids: String = containers.iter().map(|container| self.id(container) + "\n").collect();
            return print(ids).map(|()| 0);
        }
        self.sort_containers(&mut containers);
        // A template may ask for the size too; measuring it takes a walk over the container's files.
        let wants_size = self.size
            || matches!(self.sort, Some(Order::Size))
            || self.format.as_deref().is_some_and(|format| format.contains(".Size"));
        let columns = if self.size { COLUMNS_WITH_SIZE } else { COLUMNS };
        let fields: Vec<&str> = match self.format.as_deref() {
            None | Some("table") => columns.iter().map(|(_, field)| *field).collect(),
            Some(_) => FIELDS.to_vec(),
        };
        let mut rows = Vec::with_capacity(containers.len());
        for container in &containers {
            let size = if wants_size { Some(engine.container_size(container)?) } else { None };
            rows.push((size.unwrap_or_default().0, self.row(&engine, container, size, &fields)?));
        }
        if matches!(self.sort, Some(Order::Size)) {
            rows.sort_by_key(|(bytes, _)| *bytes);
        }
        let rows: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
        if self.quiet {
            let ids = rows.iter().map(|row| row["ID"].as_str().unwrap_or_default());
            return ids.into_iter().try_for_each(print_line).map(|()| 0);
        }
        print_list_with(&rows, columns, self.format.as_deref(), !self.noheading)?;
        Ok(0)
    }
}

impl Ps {
    /// The containers to show, newest first.
    fn choose(&self, engine: &Engine) -> Result<Vec<Container>> {
        let filters = engine.container_filters(&self.filter)?;
        let mut containers = engine.list_containers()?;
        let last = self.last.and_then(|last| usize::try_from(last).ok()).or(self.latest.then_some(1));
        // Docker: who asks for a status means containers that do not run too.
        if last.is_none() && !self.all && !filters.asks_for_status() {
            containers.retain(|container| {
                let status = container.state.status;
                status.is_running() || status == Status::Restarting
            });
        }
        let mut containers = engine.filter_containers(&filters, containers)?;
        containers.truncate(last.unwrap_or(usize::MAX));
        Ok(containers)
    }

    fn sort_containers(&self, containers: &mut [Container]) {
        let Some(order) = self.sort else { return };
        match order {
            Order::Command => containers.sort_by_key(command_line),
            Order::Created => containers.sort_by_key(|container| container.record.created),
            Order::Id => {
                containers.sort_by(|one, other| one.record.id.as_str().cmp(other.record.id.as_str()))
            }
            Order::Image => containers.sort_by(|one, other| one.record.image.cmp(&other.record.image)),
            Order::Names => {
                containers.sort_by(|one, other| one.record.name.as_str().cmp(other.record.name.as_str()));
            }
            Order::RunningFor => containers.sort_by_key(|container| container.state.started_at),
            Order::Status => containers.sort_by_key(|container| status_text(container.state.status)),
            Order::Size => {}
        }
    }

    fn id(&self, container: &Container) -> String {
        let id = &container.record.id;
        if self.no_trunc { id.to_string() } else { id.short().to_owned() }
    }

    /// What `fields` are of a container; those that nobody asks for are not looked up.
    fn row(
        &self,
        engine: &Engine,
        container: &Container,
        size: Option<(u64, u64)>,
        fields: &[&str],
    ) -> Result<Value> {
        let value = |field| Ok((str::to_owned(field), self.field(engine, container, size, field)?));
        let row = fields.iter().map(|field| value(field)).collect::<Result<serde_json::Map<_, _>>>()?;
        Ok(Value::Object(row))
    }

    fn field(
        &self,
        engine: &Engine,
        container: &Container,
        size: Option<(u64, u64)>,
        field: &str,
    ) -> Result<Value> {
        let Container { record, state } = container;
        Ok(match field {
            "ID" => self.id(container).into(),
            "Image" => json!(record.image),
            "Command" => self.command(container).into(),
            "CreatedAt" => record.created.to_string().into(),
            "RunningFor" => units::format_ago(record.created).into(),
            "Status" => status(container).into(),
            "State" => status_text(state.status).into(),
            "Ports" => ports(engine, container)?.into(),
            "Names" => record.name.to_string().into(),
            "Labels" => {
                let labels = record.labels.iter().map(|(key, value)| format!("{key}={value}"));
                labels.collect::<Vec<_>>().join(",").into()
            }
            "LocalVolumes" => {
                let points = record.host.mounts.points.iter();
                points.filter(|point| point.volume().is_some()).count().to_string().into()
            }
            "Mounts" => mounts(container).into(),
            "Networks" => network_text(&record.host.network.mode).into(),
            "Size" => size_text(size).into(),
            "Pid" => {
                state.init.as_ref().filter(|_| state.status.has_process()).map_or(0, |init| init.pid).into()
            }
            "ExitCode" => state.exit_code.unwrap_or(0).into(),
            _ => Value::Null,
        })
    }

    /// `"nginx -g 'daemon…"`
    fn command(&self, container: &Container) -> String {
        const SHOWN: usize = 20;
        let line = command_line(container);
        if self.no_trunc || line.chars().count() <= SHOWN {
            return format!("\"{line}\"");
        }
        format!("\"{}…\"", line.chars().take(SHOWN - 1).collect::<String>())
    }
}

/// `12kB (virtual 4.5MB)`: its own files, and with its image.
fn size_text(size: Option<(u64, u64)>) -> String {
    let bytes = units::format_bytes;
    size.map_or_else(
        || "0B".to_owned(),
        |(own, with_image)| format!("{} (virtual {})", bytes(own), bytes(with_image)),
    )
}

fn command_line(container: &Container) -> String {
    let program = &container.record.program;
    let words: Vec<&str> = program.entrypoint.iter().chain(&program.command).map(String::as_str).collect();
    words.join(" ")
}

/// What is published, then what is only known to be served, as Docker has it.
fn ports(engine: &Engine, container: &Container) -> Result<String> {
    let published = engine.published_ports(container)?;
    let mut texts: Vec<String> = published.iter().map(port_text).collect();
    let is_up =
        container.state.status.is_running() && container.record.host.network.mode == NetworkMode::Bridge;
    let sides: Vec<String> = published.iter().map(container_side).collect();
    let served = container.record.host.network.exposed.iter().filter(|port| is_up && !sides.contains(port));
    texts.extend(served.cloned());
    Ok(texts.join(", "))
}

fn mounts(container: &Container) -> String {
    let points = container.record.host.mounts.points.iter();
    let sources: Vec<String> = points
        .filter_map(|point| match &point.source {
            MountSource::Bind { path } => Some(path.display().to_string()),
            _ => point.volume().map(str::to_owned),
        })
        .collect();
    sources.join(",")
}

/// `Up 3 minutes`, `Exited (0) 2 hours ago`
fn status(container: &Container) -> String {
    let state = &container.state;
    let since = |then: Timestamp| units::format_duration(Timestamp::now().as_second() - then.as_second());
    match state.status {
        Status::Running => {
            let health = match state.health.map(|health| health.status) {
                None => "",
                Some(HealthStatus::Starting) => " (health: starting)",
                Some(HealthStatus::Healthy) => " (healthy)",
                Some(HealthStatus::Unhealthy) => " (unhealthy)",
            };
            format!("Up {}{health}", state.started_at.map_or_else(String::new, since))
        }
        Status::Paused => format!("Up {} (Paused)", state.started_at.map_or_else(String::new, since)),
        Status::Restarting => {
            let ago =
                state.finished_at.map_or_else(String::new, |then| format!(" {}", units::format_ago(then)));
            format!("Restarting ({}){ago}", state.exit_code.unwrap_or(0))
        }
        Status::Exited => {
            let ago =
                state.finished_at.map_or_else(String::new, |then| format!(" {}", units::format_ago(then)));
            format!("Exited ({}){ago}", state.exit_code.unwrap_or(0))
        }
        Status::Created | Status::Creating => "Created".to_owned(),
        Status::Initialized => "Initialized".to_owned(),
        Status::Removing => "Removal In Progress".to_owned(),
    }
}
