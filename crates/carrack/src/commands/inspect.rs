//! `carrack inspect`

use carrack_engine::Engine;
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{Command, show_each};
use crate::context::Context;
use crate::failure::{Failure, Result};

pub const EXAMPLES: &str = "Examples:
  carrack inspect web
  carrack inspect --format '{{.NetworkSettings.IPAddress}}' web
  carrack inspect --type image --format '{{json .Config.Env}}' app";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Container,
    Image,
    Volume,
}

/// Shows all details of containers, images and volumes, as JSON.
#[derive(Args)]
pub struct Inspect {
    /// What the names are; without it containers come before images, and these before volumes
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    #[command(flatten)]
    objects: Objects,
}

/// Shows all details of images, as JSON.
#[derive(Args)]
pub struct ImageInspect {
    #[command(flatten)]
    objects: Objects,
}

/// Shows all details of containers, as JSON.
#[derive(Args)]
pub struct ContainerInspect {
    #[command(flatten)]
    objects: Objects,
}

#[derive(Args)]
struct Objects {
    /// Go template for each object, or json
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Measure what containers take on disk too
    #[arg(short, long)]
    size: bool,
    /// Names or IDs
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

impl Command for Inspect {
    fn run(self, context: &Context) -> Result<u8> {
        self.objects.show(context, |engine, name| match self.kind {
            Some(Kind::Container) => Ok(engine.inspect_container(name)?),
            Some(Kind::Image) => Ok(engine.inspect_image(name)?),
            Some(Kind::Volume) => Ok(engine.inspect_volume(name)?),
            None => inspect_any(engine, name),
        })
    }
}

impl Command for ImageInspect {
    fn run(self, context: &Context) -> Result<u8> {
        self.objects.show(context, |engine, name| Ok(engine.inspect_image(name)?))
    }
}

impl Command for ContainerInspect {
    fn run(self, context: &Context) -> Result<u8> {
        self.objects.show(context, |engine, name| Ok(engine.inspect_container(name)?))
    }
}

fn inspect_any(engine: &Engine, name: &str) -> Result<Value> {
    match engine.inspect_container(name) {
        Err(error) if error.is_no_such_container() => {}
        result => return Ok(result?),
    }
    match engine.inspect_image(name) {
        Err(error) if error.is_no_such_image() => {}
        result => return Ok(result?),
    }
    match engine.has_volume(name) {
        Ok(true) => Ok(engine.inspect_volume(name)?),
        // It may be no name of a volume at all.
        _ => Err(Failure::message(format!("no such object: {name}"))),
    }
}

impl Objects {
    fn show(&self, context: &Context, inspect: impl Fn(&Engine, &str) -> Result<Value>) -> Result<u8> {
        let engine = context.engine()?;
        show_each(&self.names, self.format.as_deref(), |name| {
            let mut value = inspect(&engine, name)?;
            if self.size {
                add_size(&engine, &mut value)?;
            }
            Ok(value)
        })
    }
}

/// Adds Docker's fields to the JSON of a container; an image has its size in any case.
fn add_size(engine: &Engine, value: &mut Value) -> Result<()> {
    let Some(id) = value.get("HostConfig").and(value["Id"].as_str()) else { return Ok(()) };
    let (own, with_image) = engine.container_size(&engine.find_container(id)?)?;
    value["SizeRw"] = own.into();
    value["SizeRootFs"] = with_image.into();
    Ok(())
}
