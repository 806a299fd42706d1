//! `list`.

use carrack_engine::runtime::oci::{Container, SPEC_VERSION};
use clap::Args;
use serde_json::{Value, json};

use super::Context;
use crate::failure::{Failure, Result};
use crate::output;

/// Lists containers.
#[derive(Args)]
pub struct List {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
}

impl List {
    pub fn run(self, context: &Context) -> Result<u8> {
        let containers = context.runtime.list()?;
        if self.quiet {
            containers.iter().try_for_each(|container| output::print_line(&container.record().id))?;
            return Ok(0);
        }
        let rows = containers.iter().map(row).collect::<Result<Vec<_>>>()?;
        if self.format == "json" {
            output::print_json(&json!(rows))?;
        } else {
            let columns = &[
                ("ID", "id"),
                ("PID", "pid"),
                ("STATUS", "status"),
                ("BUNDLE", "bundle"),
                ("CREATED", "created"),
                ("OWNER", "owner"),
            ];
            output::print_list(&rows, columns, None)?;
        }
        Ok(0)
    }
}

fn row(container: &Container) -> Result<Value> {
    let state = container.state().map_err(Failure::from)?;
    let details = &container.record().details;
    Ok(json!({
        "ociVersion": SPEC_VERSION,
        "id": state.id,
        "pid": state.pid.unwrap_or(0),
        "status": state.status,
        "bundle": state.bundle,
        "rootfs": details.rootfs,
        "created": time(details.created_seconds),
        "annotations": state.annotations,
        "owner": owner(details.owner),
    }))
}

/// As RFC 3339 has it.
pub fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The name of root, and the numbers of all others.
pub fn owner(uid: u32) -> String {
    if uid == 0 { "root".to_owned() } else { format!("#{uid}") }
}
