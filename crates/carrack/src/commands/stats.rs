//! `carrack stats`

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::thread::sleep;
use std::time::Duration;

use carrack_engine::{BlockIo, Container, ContainerStats, Engine, Interface};
use clap::Args;
use serde_json::{Value, json};

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Columns, print, print_list};
use crate::units::{format_binary, format_bytes};

pub const EXAMPLES: &str = "Examples:
  carrack stats
  carrack stats --no-stream web
  carrack stats --no-stream --format '{{.Name}} {{.CPUPerc}} {{.MemUsage}}'";

const COLUMNS: Columns = &[
    ("CONTAINER ID", "ID"),
    ("NAME", "Name"),
    ("CPU %", "CPUPerc"),
    ("MEM USAGE / LIMIT", "MemUsage"),
    ("MEM %", "MemPerc"),
    ("NET I/O", "NetIO"),
    ("BLOCK I/O", "BlockIO"),
    ("PIDS", "PIDs"),
];

/// The first figures of CPU time are over this long.
const FIRST_INTERVAL: Duration = Duration::from_millis(500);
/// Moves the cursor to the upper left corner of the terminal, and clears what is below it.
const HOME: &str = "\u{1b}[H";
const CLEAR_BELOW: &str = "\u{1b}[J";

/// Shows what containers use: the ones that are named, else all that run. It goes on until it is interrupted.
#[derive(Args)]
pub struct Stats {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", conflicts_with = "all")]
    containers: Vec<String>,
    /// Show containers that do not run too
    #[arg(short, long)]
    all: bool,
    /// Show the figures once
    #[arg(long)]
    no_stream: bool,
    /// Print full IDs
    #[arg(long)]
    no_trunc: bool,
    /// Seconds between figures
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    interval: u16,
    /// table, json, or a Go template for each container
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// The samples of one moment, by the containers' IDs.
type Samples = HashMap<String, ContainerStats>;

impl Command for Stats {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let in_place = !self.no_stream && self.format.is_none() && io::stdout().is_terminal();
        let mut earlier = samples(&engine, &self.containers(&engine)?)?;
        if in_place {
            print(format!("{HOME}{CLEAR_BELOW}"))?;
        }
        sleep(FIRST_INTERVAL);
        loop {
            let containers = self.containers(&engine)?;
            let later = samples(&engine, &containers)?;
            let rows: Vec<Value> =
                containers.iter().map(|container| self.row(container, &earlier, &later)).collect();
            if in_place {
                print(format!("{HOME}{CLEAR_BELOW}"))?;
            }
            print_list(&rows, COLUMNS, self.format.as_deref())?;
            if self.no_stream {
                return Ok(0);
            }
            earlier = later;
            sleep(Duration::from_secs(self.interval.into()));
        }
    }
}

fn samples(engine: &Engine, containers: &[Container]) -> Result<Samples> {
    let mut samples = Samples::new();
    for container in containers {
        if let Some(stats) = engine.container_stats(container)? {
            samples.insert(container.record.id.to_string(), stats);
        }
    }
    Ok(samples)
}

impl Stats {
    fn containers(&self, engine: &Engine) -> Result<Vec<Container>> {
        if !self.containers.is_empty() {
            return Ok(self
                .containers
                .iter()
                .map(|text| engine.find_container(text))
                .collect::<Result<_, _>>()?);
        }
        let mut containers = engine.list_containers()?;
        containers.retain(|container| self.all || container.state.status.is_running());
        Ok(containers)
    }

    fn row(&self, container: &Container, earlier: &Samples, later: &Samples) -> Value {
        let record = &container.record;
        let id = if self.no_trunc { record.id.to_string() } else { record.id.short().to_owned() };
        let later = later.get(record.id.as_str());
        let cpus =
            later.zip(earlier.get(record.id.as_str())).map(|(later, earlier)| later.cpus_since(earlier));
        let percent = |part: Option<f64>| format!("{:.2}%", part.unwrap_or(0.0) * 100.0);
        let figures = Figures::of(later);
        json!({
            "BlockIO": figures.block,
            "CPUPerc": percent(cpus),
            "Container": id,
            "ID": id,
            "MemPerc": percent(figures.memory_share),
            "MemUsage": figures.memory,
            "Name": record.name.to_string(),
            "NetIO": figures.network,
            "PIDs": figures.pids.to_string(),
        })
    }
}

/// What a row shows of one sample; zeros where there is none.
struct Figures {
    memory: String,
    memory_share: Option<f64>,
    network: String,
    block: String,
    pids: u64,
}

impl Figures {
    fn of(stats: Option<&ContainerStats>) -> Self {
        let pair = |one: String, other: String| format!("{one} / {other}");
        let bytes = |one: u64, other: u64| pair(format_bytes(one), format_bytes(other));
        let Some(stats) = stats else {
            let none = bytes(0, 0);
            return Self {
                memory: none.clone(),
                memory_share: None,
                network: none.clone(),
                block: none,
                pids: 0,
            };
        };
        let used = stats.usage.memory.working_set_bytes();
        let limit = stats.memory_limit_bytes;
        let interfaces = |field: fn(&Interface) -> u64| stats.interfaces.iter().map(field).sum();
        let devices = |field: fn(&BlockIo) -> u64| stats.usage.block_io.iter().map(field).sum();
        Self {
            memory: pair(format_binary(used), format_binary(limit)),
            memory_share: Some(used as f64 / limit.max(1) as f64),
            network: bytes(interfaces(|one| one.received_bytes), interfaces(|one| one.sent_bytes)),
            block: bytes(devices(|one| one.read_bytes), devices(|one| one.written_bytes)),
            pids: stats.usage.tasks.current,
        }
    }
}
