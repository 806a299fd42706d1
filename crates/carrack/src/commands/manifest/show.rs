//! `carrack manifest inspect`, `carrack manifest exists`, `carrack manifest ls`

use carrack_engine::ManifestList;
use clap::Args;
use serde_json::{Value, json};

use super::Command;
use crate::commands::registry_flags::RegistryFlags;
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Columns, print, print_list};

pub const EXAMPLES: &str = "Examples:
  carrack manifest inspect app:1
  carrack manifest inspect registry.example/app:1
  carrack manifest inspect docker://registry.example/app:1 | sha256sum";

const COLUMNS: Columns = &[("NAME", "Name"), ("DIGEST", "Digest"), ("IMAGES", "Images")];

/// Prints a list that was made here, or what an image was pulled as, or else what a registry has, without pulling it:
/// the exact bytes, whose digest is that of the list, index or manifest.
#[derive(Args)]
pub struct Inspect {
    /// A list, an image or a reference
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    registry: RegistryFlags,
}

impl Command for Inspect {
    fn run(self, context: &Context) -> Result<u8> {
        print(self.registry.apply(context).engine()?.manifest_bytes(&self.name)?)?;
        Ok(0)
    }
}

/// Tells by the exit code whether there is a manifest list: 0 when there is, 1 when there is not.
#[derive(Args)]
pub struct Exists {
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
}

impl Command for Exists {
    fn run(self, context: &Context) -> Result<u8> {
        Ok(u8::from(!context.engine()?.has_list(&self.list)?))
    }
}

/// Lists the manifest lists that were made here.
#[derive(Args)]
pub struct List {
    /// table, json, or a Go template for each list
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl Command for List {
    fn run(self, context: &Context) -> Result<u8> {
        let row = |list: &ManifestList| {
            json!({
                "Name": list.reference.familiar(),
                "Digest": list.descriptor().digest,
                "Images": list.index.manifests.len(),
            })
        };
        let rows: Vec<Value> = context.engine()?.manifest_lists()?.iter().map(row).collect();
        print_list(&rows, COLUMNS, self.format.as_deref())?;
        Ok(0)
    }
}
