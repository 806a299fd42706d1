//! The commands that are one call each.

use std::path::PathBuf;

use carrack_engine::parse_signal;
use carrack_engine::runtime::oci;
use clap::Args;
use serde_json::json;

use super::{Context, list};
use crate::failure::{Failure, Result};
use crate::output;

/// Executes the program of a created container.
#[derive(Args)]
pub struct Start {
    /// The id of the container
    #[arg(value_name = "ID")]
    id: String,
}

impl Start {
    pub fn run(self, context: &Context) -> Result<u8> {
        context.runtime.find(&self.id)?.start()?;
        Ok(0)
    }
}

/// Prints the state of a container.
#[derive(Args)]
pub struct State {
    /// The id of the container
    #[arg(value_name = "ID")]
    id: String,
}

impl State {
    pub fn run(self, context: &Context) -> Result<u8> {
        let container = context.runtime.find(&self.id)?;
        let state = container.state()?;
        let mut shown = json!(state);
        // runc's state has these beside those of the specification, and callers read them.
        let details = &container.record().details;
        shown["pid"] = json!(state.pid.unwrap_or(0));
        shown["rootfs"] = json!(details.rootfs);
        shown["created"] = json!(list::time(details.created_seconds));
        shown["owner"] = json!(list::owner(details.owner));
        output::print_json(&shown)?;
        Ok(0)
    }
}

/// Sends a signal to a container.
#[derive(Args)]
pub struct Kill {
    /// To all processes of the container
    #[arg(short, long)]
    all: bool,
    /// The id of the container
    #[arg(value_name = "ID")]
    id: String,
    /// The signal, by name or number
    #[arg(value_name = "SIGNAL", default_value = "TERM")]
    signal: String,
}

impl Kill {
    pub fn run(self, context: &Context) -> Result<u8> {
        let signal = parse_signal(&self.signal)?;
        let container = context.runtime.find(&self.id)?;
        if self.all {
            container.kill_all(signal)?
        } else {
            container.kill(signal)?
        }
        Ok(0)
    }
}

/// Removes what is left of a container.
#[derive(Args)]
pub struct Delete {
    /// Kill it where it runs; one that does not exist is no error
    #[arg(short, long)]
    force: bool,
    /// The ids of the containers
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

impl Delete {
    pub fn run(self, context: &Context) -> Result<u8> {
        for id in &self.ids {
            match context.runtime.find(id).and_then(|container| container.delete(self.force)) {
                Err(oci_error) if self.force && is_missing(&oci_error) => {}
                result => result?,
            }
        }
        Ok(0)
    }
}

fn is_missing(error: &carrack_engine::runtime::Error) -> bool {
    matches!(error, carrack_engine::runtime::Error::NoContainer { .. })
}

/// Lets all processes stand still.
#[derive(Args)]
pub struct Pause {
    /// The id of the container
    #[arg(value_name = "ID")]
    id: String,
}

impl Pause {
    pub fn run(self, context: &Context) -> Result<u8> {
        context.runtime.find(&self.id)?.pause()?;
        Ok(0)
    }
}

/// Lets all processes go on.
#[derive(Args)]
pub struct Resume {
    /// The id of the container
    #[arg(value_name = "ID")]
    id: String,
}

impl Resume {
    pub fn run(self, context: &Context) -> Result<u8> {
        context.runtime.find(&self.id)?.resume()?;
        Ok(0)
    }
}

/// Prints the features document.
#[derive(Args)]
pub struct Features {}

impl Features {
    pub fn run(self) -> Result<u8> {
        output::print_json(&oci::features())?;
        Ok(0)
    }
}

/// Writes a config.json to begin with.
#[derive(Args)]
pub struct Spec {
    /// Folder of the bundle
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// For a user other than root
    #[arg(long)]
    rootless: bool,
}

impl Spec {
    pub fn run(self) -> Result<u8> {
        let path = self.bundle.join("config.json");
        let failed = |error| Failure::message(format!("cannot write {}: {error}", path.display()));
        let json =
            serde_json::to_string_pretty(&oci::template(self.rootless)).expect("a spec can be written");
        // One that exists may have been worked on.
        let mut file = std::fs::File::create_new(&path).map_err(failed)?;
        std::io::Write::write_all(&mut file, format!("{json}\n").as_bytes()).map_err(failed)?;
        Ok(0)
    }
}
