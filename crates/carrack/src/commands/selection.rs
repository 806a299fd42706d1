//! Which containers `start`, `stop`, `restart`, `kill` and `rm` act on: names, or what flags select.

use std::path::PathBuf;

use carrack_engine::{Container, Engine};
use clap::Args;

use super::container_flags::id_file;
use crate::failure::{Failure, Result, invalid};

/// Names, and flags that select in their place.
#[derive(Args)]
pub struct Selection {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["all", "filter", "cidfile", "latest"])]
    pub containers: Vec<String>,
    /// Every container that the command can be used on
    #[arg(short, long)]
    pub all: bool,
    /// Only containers that this is true of, as in label=team=sea
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Read the ID of a container from this file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Vec<PathBuf>,
    /// The container that was created last
    #[arg(short, long)]
    pub latest: bool,
}

impl Selection {
    /// The names as given, or the IDs of the containers that flags select and `suits` admits.
    pub fn resolve(self, engine: &Engine, suits: impl Fn(&Container) -> bool) -> Result<Vec<String>> {
        let Self { containers: mut names, all, filter, cidfile, latest } = self;
        names.extend(id_file::read_ids(&cidfile)?);
        if usize::from(all) + usize::from(latest) + usize::from(!names.is_empty()) > 1 {
            return Err(invalid("CONTAINER", &names.join(" "), "names alone, --all alone or --latest alone"));
        }
        if !all && !latest && filter.is_empty() {
            return Ok(names);
        }
        let filters = engine.container_filters(&filter)?;
        let mut containers = engine.list_containers()?;
        if latest {
            containers.truncate(1);
            if containers.is_empty() {
                return Err(Failure::message("there is no container"));
            }
        } else if names.is_empty() {
            containers.retain(suits);
        } else {
            // Podman: of the containers that are named, those that pass.
            let named: Vec<_> =
                names.iter().map(|name| Ok(engine.find_container(name)?.record.id)).collect::<Result<_>>()?;
            containers.retain(|container| named.contains(&container.record.id));
        }
        let passed = engine.filter_containers(&filters, containers)?;
        Ok(passed.into_iter().map(|container| container.record.id.to_string()).collect())
    }
}
