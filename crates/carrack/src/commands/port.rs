//! `carrack port`

use carrack_engine::{Engine, container_side, host_side};
use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::{Failure, Result, invalid};
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack port web
  carrack port web 80/tcp";

/// Shows which ports of the host lead to a container.
#[derive(Args)]
pub struct Port {
    /// Name or ID
    #[arg(value_name = "CONTAINER", required_unless_present = "all", conflicts_with = "all")]
    container: Option<String>,
    /// Only this port of the container
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
    /// Of every running container
    #[arg(short, long)]
    all: bool,
}

impl Command for Port {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let Some(name) = &self.container else { return show_all(&engine) };
        let ports = engine.published_ports(&engine.find_container(name)?)?;
        let Some(wanted) = &self.port else {
            for port in &ports {
                print_line(format_args!("{} -> {}", container_side(port), host_side(port)))?;
            }
            return Ok(0);
        };
        let side = if wanted.contains('/') { wanted.clone() } else { format!("{wanted}/tcp") };
        if side.split('/').next().and_then(|port| port.parse::<u16>().ok()).is_none() {
            return Err(invalid("PORT", wanted, "a port as in 80 or 53/udp"));
        }
        let mut found = ports.iter().filter(|port| container_side(port) == side).peekable();
        if found.peek().is_none() {
            return Err(Failure::message(format!("container {name} does not publish {side}")));
        }
        found.try_for_each(|port| print_line(host_side(port))).map(|()| 0)
    }
}

/// Podman's list: the ID before each line.
fn show_all(engine: &Engine) -> Result<u8> {
    for container in engine.list_containers()? {
        let id = container.record.id.short();
        for port in engine.published_ports(&container)? {
            print_line(format_args!("{id}\t{} -> {}", container_side(&port), host_side(&port)))?;
        }
    }
    Ok(0)
}
