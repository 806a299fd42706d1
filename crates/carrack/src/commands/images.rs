//! `carrack images`

use std::collections::BTreeSet;

use carrack_engine::ImageRecord;
use carrack_oci::Reference;
use clap::Args;
use serde_json::{Value, json};

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Columns, print_line, print_list};
use crate::units;

pub const EXAMPLES: &str = "Examples:
  carrack images
  carrack images --digests registry.example/team/app
  carrack images --format '{{.Repository}}:{{.Tag}} {{.Size}}'
  carrack images -q";

const COLUMNS: Columns = &[
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
];
const COLUMNS_WITH_DIGESTS: Columns = &[
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("DIGEST", "Digest"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
];

/// Lists images.
#[derive(Args)]
pub struct Images {
    /// Only images of this repository, or with this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<Reference>,
    /// Print IDs only
    #[arg(short, long)]
    quiet: bool,
    /// Show the digest that the registry knows the image by
    #[arg(long)]
    digests: bool,
    /// Print full IDs
    #[arg(long)]
    no_trunc: bool,
    /// table, json, or a Go template for each image
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl Command for Images {
    fn run(self, context: &Context) -> Result<u8> {
        let mut records = context.engine()?.list_images()?;
        records.retain(|record| self.wants(record));
        // The newest first, as Docker has it; equal ones stay by name.
        records.sort_by_key(|record| std::cmp::Reverse(record.created_unix));
        if self.quiet {
            let mut seen = BTreeSet::new();
            records.retain(|record| seen.insert(record.id().clone()));
            return records.iter().try_for_each(|record| print_line(self.id(record))).map(|()| 0);
        }
        let rows: Vec<Value> = records.iter().map(|record| self.row(record)).collect();
        let columns = if self.digests { COLUMNS_WITH_DIGESTS } else { COLUMNS };
        print_list(&rows, columns, self.format.as_deref())?;
        Ok(0)
    }
}

impl Images {
    fn wants(&self, record: &ImageRecord) -> bool {
        let Some(wanted) = &self.name else { return true };
        record.reference.as_ref().is_some_and(|reference| {
            reference.repository() == wanted.repository()
                && (wanted.tag().is_none() || wanted.tag() == reference.tag())
        })
    }

    fn id(&self, record: &ImageRecord) -> String {
        if self.no_trunc { record.id().to_string() } else { record.id().short().to_owned() }
    }

    fn row(&self, record: &ImageRecord) -> Value {
        let none = || "<none>".to_owned();
        let reference = record.reference.as_ref();
        let created = jiff::Timestamp::from_second(record.created_unix).unwrap_or_default();
        json!({
            "Repository": reference.map_or_else(none, Reference::familiar_repository),
            "Tag": reference.and_then(Reference::tag).map_or_else(none, str::to_owned),
            "Digest": record.target.digest.to_string(),
            "ID": self.id(record),
            "CreatedSince": units::format_ago(created),
            "CreatedAt": created.to_string(),
            "Size": units::format_bytes(record.size_bytes),
        })
    }
}
