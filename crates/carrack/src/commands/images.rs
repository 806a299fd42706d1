//! `carrack images`

use std::collections::{BTreeMap, BTreeSet};

use carrack_engine::{ImageRecord, ImageUsage};
use carrack_oci::{Digest, Reference};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Columns, print_line, print_list_with};
use crate::units;

pub const EXAMPLES: &str = "Examples:
  carrack images
  carrack images --digests registry.example/team/app
  carrack images --filter dangling=true --quiet
  carrack images --filter 'reference=registry.example/*/app' --sort size
  carrack images --format '{{.Repository}}:{{.Tag}} {{.Size}} {{.SharedSize}}'";

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

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SortBy {
    Created,
    Id,
    Repository,
    Size,
    Tag,
}

/// Lists images.
#[derive(Args)]
pub struct Images {
    /// Only images of this repository, or with this name; may have the wildcards * ? [a-z]
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
    /// Accepted for Docker's sake: carrack has no intermediate images, and shows all
    #[arg(short = 'a', long = "all")]
    _all: bool,
    /// Only images that pass: dangling=BOOL, label=KEY[=VALUE], label!=KEY[=VALUE], before=IMAGE, since=IMAGE,
    /// until=TIME, reference=PATTERN, id=ID, containers=BOOL, readonly=BOOL
    #[arg(short, long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
    /// Print IDs only
    #[arg(short, long)]
    quiet: bool,
    /// Show the digest that the registry knows the image by
    #[arg(long)]
    digests: bool,
    /// Print full IDs
    #[arg(long)]
    no_trunc: bool,
    /// The order: the newest or the largest first, else by name
    #[arg(long, value_enum, default_value = "created")]
    sort: SortBy,
    /// Print tables without their headings
    #[arg(short = 'n', long = "noheading")]
    no_heading: bool,
    /// table, json, a Go template for each image, or table and a template
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl Command for Images {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let mut filters = engine.image_filters(&self.filters)?;
        if let Some(name) = &self.name {
            filters.add_reference(name);
        }
        let mut records = engine.filter_images(&filters)?;
        self.sort(&mut records);
        if self.quiet {
            let mut seen = BTreeSet::new();
            records.retain(|record| seen.insert(record.id().clone()));
            return records.iter().try_for_each(|record| print_line(self.id(record))).map(|()| 0);
        }
        let usage = if self.wants_usage() { engine.image_usage()? } else { BTreeMap::new() };
        let rows: Vec<Value> = records.iter().map(|record| self.row(record, &usage)).collect();
        let columns = if self.digests { COLUMNS_WITH_DIGESTS } else { COLUMNS };
        print_list_with(&rows, columns, self.format.as_deref(), !self.no_heading)?;
        Ok(0)
    }
}

impl Images {
    /// Equal images stay by name.
    fn sort(&self, records: &mut [ImageRecord]) {
        match self.sort {
            SortBy::Created => records.sort_by_key(|record| std::cmp::Reverse(record.created_unix)),
            SortBy::Size => records.sort_by_key(|record| std::cmp::Reverse(record.size_bytes)),
            SortBy::Id => records.sort_by_cached_key(|record| record.id().clone()),
            SortBy::Repository => {}
            SortBy::Tag => records.sort_by_cached_key(|record| {
                record.reference.as_ref().and_then(|name| name.tag().map(str::to_owned))
            }),
        }
    }

    /// What images share is worked out only when it is asked for: every config must be read.
    fn wants_usage(&self) -> bool {
        let fields = ["json", ".SharedSize", ".UniqueSize", ".Containers"];
        self.format.as_ref().is_some_and(|format| fields.iter().any(|field| format.contains(field)))
    }

    fn id(&self, record: &ImageRecord) -> String {
        if self.no_trunc { record.id().to_string() } else { record.id().short().to_owned() }
    }

    fn row(&self, record: &ImageRecord, usage: &BTreeMap<Digest, ImageUsage>) -> Value {
        let none = || "<none>".to_owned();
        let reference = record.reference.as_ref();
        let created = jiff::Timestamp::from_second(record.created_unix).unwrap_or_default();
        let size = units::format_bytes(record.size_bytes);
        let usage = usage.get(record.id()).copied().unwrap_or_default();
        json!({
            "Containers": usage.containers.to_string(),
            "CreatedAt": created.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
            "CreatedSince": units::format_ago(created),
            "Digest": record.target.digest.to_string(),
            "ID": self.id(record),
            "Repository": reference.map_or_else(none, Reference::familiar_repository),
            "SharedSize": units::format_bytes(usage.shared_bytes),
            "Size": size.clone(),
            "Tag": reference.and_then(Reference::tag).map_or_else(none, str::to_owned),
            "UniqueSize": units::format_bytes(usage.unique_bytes),
            "VirtualSize": size,
        })
    }
}
