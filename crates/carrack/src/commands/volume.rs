//! `carrack volume ...`

use carrack_engine::{VolumeFilters, VolumeRequest, VolumeUse};
use clap::Args;
use serde_json::{Value, json};

use super::{Command, for_each, pairs, show_each};
use crate::confirm::confirm;
use crate::context::Context;
use crate::failure::{Result, invalid};
use crate::output::{Columns, print_line, print_list};
use crate::units::format_bytes;

pub const CREATE_EXAMPLES: &str = "Examples:
  carrack volume create data
  carrack volume create --label team=web --opt type=tmpfs --opt o=size=64m scratch
  carrack volume create --opt type=none --opt o=bind --opt device=/srv/data data";
pub const LIST_EXAMPLES: &str = "Examples:
  carrack volume ls
  carrack volume ls --filter dangling=true --quiet
  carrack volume ls --format '{{.Name}} {{.Mountpoint}}'";

const COLUMNS: Columns = &[("DRIVER", "Driver"), ("VOLUME NAME", "Name")];

/// Makes a volume, and prints its name; one that exists is taken as it is.
#[derive(Args)]
pub struct Create {
    /// Label of the volume
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// The driver: local is the only one
    #[arg(short, long, value_name = "DRIVER", default_value = "local")]
    driver: String,
    /// Option of the driver: type=tmpfs or none, device=PATH, o=OPTIONS
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Take a volume of this name as it is, which is done anyway
    #[arg(long)]
    ignore: bool,
    /// The name; a random one without it
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Command for Create {
    fn run(self, context: &Context) -> Result<u8> {
        if self.driver != "local" {
            return Err(invalid("--driver", &self.driver, "local"));
        }
        let request =
            VolumeRequest { name: self.name, labels: pairs(&self.label), options: pairs(&self.opt) };
        print_line(context.engine()?.create_volume(request)?)?;
        Ok(0)
    }
}

/// Lists volumes.
#[derive(Args)]
pub struct List {
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    /// dangling=BOOL, driver=NAME, label=KEY[=VALUE], name=TEXT, anonymous=BOOL, until=TIME
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// table, json, or a Go template for each volume
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl Command for List {
    fn run(self, context: &Context) -> Result<u8> {
        let volumes = context.engine()?.list_volumes(&VolumeFilters::parse(&self.filter)?)?;
        if self.quiet {
            volumes.iter().try_for_each(|one| print_line(&one.volume.record.name))?;
            return Ok(0);
        }
        print_list(&volumes.iter().map(row).collect::<Vec<_>>(), COLUMNS, self.format.as_deref())?;
        Ok(0)
    }
}

fn row(one: &VolumeUse) -> Value {
    let record = &one.volume.record;
    let labels: Vec<String> = record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "Availability": "N/A",
        "CreatedAt": record.created.to_string(),
        "Driver": "local",
        "Group": "N/A",
        "Labels": labels.join(","),
        "Links": one.containers.len().to_string(),
        "Mountpoint": one.volume.data(),
        "Name": record.name.as_str(),
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
    })
}

/// Shows all details of volumes, as JSON.
#[derive(Args)]
pub struct Inspect {
    /// Go template for each volume, or json
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// All volumes
    #[arg(short, long, conflicts_with = "names")]
    all: bool,
    /// Names
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,
}

impl Command for Inspect {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let names = match self.all {
            true => engine
                .list_volumes(&VolumeFilters::default())?
                .iter()
                .map(|one| one.volume.record.name.to_string())
                .collect(),
            false => self.names,
        };
        show_each(&names, self.format.as_deref(), |name| Ok(engine.inspect_volume(name)?))
    }
}

/// Removes volumes that no container has, with all that is in them.
#[derive(Args)]
pub struct Remove {
    /// Do not mind volumes that do not exist
    #[arg(short, long)]
    force: bool,
    /// Names
    #[arg(value_name = "VOLUME", required = true)]
    names: Vec<String>,
}

impl Command for Remove {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        for_each(&self.names, |name| {
            engine.remove_volume(name, self.force)?;
            print_line(name)
        })
    }
}

/// Removes volumes that no container has and that no user has named.
#[derive(Args)]
pub struct Prune {
    /// Volumes with a name too
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

impl Command for Prune {
    fn run(self, context: &Context) -> Result<u8> {
        let filters = VolumeFilters::parse(&self.filter)?;
        let which = if self.all { "all" } else { "anonymous" };
        let question = format!("This will remove {which} local volumes not used by at least one container.");
        if !self.force && !confirm(&question)? {
            return Ok(0);
        }
        let (removed, bytes) = context.engine()?.prune_volumes(self.all, &filters)?;
        if !removed.is_empty() {
            print_line("Deleted Volumes:")?;
            removed.iter().try_for_each(print_line)?;
            print_line("")?;
        }
        print_line(format_args!("Total reclaimed space: {}", format_bytes(bytes)))?;
        Ok(0)
    }
}

/// Tells by the exit code whether a volume is here: 0 when it is, 1 when it is not.
#[derive(Args)]
pub struct Exists {
    /// Name
    #[arg(value_name = "VOLUME")]
    name: String,
}

impl Command for Exists {
    fn run(self, context: &Context) -> Result<u8> {
        Ok(u8::from(!context.engine()?.has_volume(&self.name)?))
    }
}
