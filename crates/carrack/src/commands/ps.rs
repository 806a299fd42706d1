//! `carrack ps`

use carrack_engine::{Container, HealthStatus, Status, network_text, port_text, status_text};
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Columns, print, print_list};
use crate::units;

pub const EXAMPLES: &str = "Examples:
  carrack ps
  carrack ps --all
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

/// Lists containers: the running ones, or all.
#[derive(Args)]
pub struct Ps {
    /// Show containers that do not run too
    #[arg(short, long)]
    all: bool,
    /// Print IDs only
    #[arg(short, long)]
    quiet: bool,
    /// Show the container that was created last
    #[arg(short, long)]
    latest: bool,
    /// Show this many containers, the ones that were created last
    #[arg(short = 'n', long, value_name = "NUMBER")]
    last: Option<usize>,
    /// Print full IDs and commands
    #[arg(long)]
    no_trunc: bool,
    /// table, json, or a Go template for each container
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl Command for Ps {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let mut containers = engine.list_containers()?;
        match self.last.or(self.latest.then_some(1)) {
            Some(last) => containers.truncate(last),
            None if self.all => {}
            None => containers
                .retain(|container| matches!(container.state.status, Status::Running | Status::Restarting)),
        }
        if self.quiet {
            let ids: String = containers.iter().map(|container| self.id(container) + "\n").collect();
            return print(ids).map(|()| 0);
        }
        let mut rows = Vec::with_capacity(containers.len());
        for container in &containers {
            let ports =
                engine.published_ports(container)?.iter().map(port_text).collect::<Vec<_>>().join(", ");
            rows.push(self.row(container, &ports));
        }
        print_list(&rows, COLUMNS, self.format.as_deref())?;
        Ok(0)
    }
}

impl Ps {
    fn id(&self, container: &Container) -> String {
        let id = &container.record.id;
        if self.no_trunc { id.to_string() } else { id.short().to_owned() }
    }

    fn row(&self, container: &Container, ports: &str) -> Value {
        let Container { record, state } = container;
        let labels =
            record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
        json!({
            "ID": self.id(container),
            "Image": record.image,
            "Command": self.command(container),
            "CreatedAt": record.created.to_string(),
            "RunningFor": units::format_ago(record.created),
            "Status": status(container),
            "State": status_text(state.status),
            "Ports": ports,
            "Names": record.name.to_string(),
            "Labels": labels,
            "Networks": network_text(&record.host.network.mode),
        })
    }

    /// `"nginx -g 'daemon…"`
    fn command(&self, container: &Container) -> String {
        const SHOWN: usize = 20;
        let program = &container.record.program;
        let words: Vec<&str> =
            program.entrypoint.iter().chain(&program.command).map(String::as_str).collect();
        let line = words.join(" ");
        if self.no_trunc || line.chars().count() <= SHOWN {
            return format!("\"{line}\"");
        }
        format!("\"{}…\"", line.chars().take(SHOWN - 1).collect::<String>())
    }
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
        Status::Removing => "Removal In Progress".to_owned(),
    }
}
