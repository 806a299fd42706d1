//! `carrack system df`

use carrack_engine::{CacheSpace, ContainerSpace, DiskUsage, ImageSpace, VolumeSpace, status_text};
use carrack_oci::Reference;
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Columns, print_line, print_list};
use crate::units::{format_ago, format_bytes};

pub const EXAMPLES: &str = "Examples:
  carrack system df
  carrack system df --verbose
  carrack system df --format '{{.Type}} {{.Size}} {{.Reclaimable}}'";

const COLUMNS: Columns = &[
    ("TYPE", "Type"),
    ("TOTAL", "TotalCount"),
    ("ACTIVE", "Active"),
    ("SIZE", "Size"),
    ("RECLAIMABLE", "Reclaimable"),
];
const IMAGE_COLUMNS: Columns = &[
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
    ("SHARED SIZE", "SharedSize"),
    ("UNIQUE SIZE", "UniqueSize"),
    ("CONTAINERS", "Containers"),
];
const CONTAINER_COLUMNS: Columns = &[
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("SIZE", "Size"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("NAMES", "Names"),
];
const VOLUME_COLUMNS: Columns = &[("VOLUME NAME", "Name"), ("LINKS", "Links"), ("SIZE", "Size")];
const CACHE_COLUMNS: Columns =
    &[("CACHE ID", "ID"), ("SIZE", "Size"), ("LAST USED", "LastUsedSince"), ("SHARED", "Shared")];

/// Shows what the store takes on disk, by the blocks of its files.
#[derive(Args)]
pub struct DiskFree {
    /// Show each image, container and entry of the build cache
    #[arg(short, long)]
    verbose: bool,
    /// table, json, or a Go template for each line
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "verbose")]
    format: Option<String>,
}

impl Command for DiskFree {
    fn run(self, context: &Context) -> Result<u8> {
        let usage = context.engine()?.disk_usage()?;
        match self.verbose {
            true => print_details(&usage)?,
            false => print_list(&summary(&usage), COLUMNS, self.format.as_deref())?,
        }
        Ok(0)
    }
}

/// One line a kind, as Docker has them; a line for leftovers where there are any, and one for all else in the store.
fn summary(usage: &DiskUsage) -> Vec<Value> {
    let line = |kind: &str, total: usize, active: usize, bytes: u64, reclaimable: u64| {
        let percent = (reclaimable * 100).checked_div(bytes);
        let percent = percent.map_or_else(String::new, |percent| format!(" ({percent}%)"));
        json!({
            "Type": kind,
            "TotalCount": total,
            "Active": active,
            "Size": format_bytes(bytes),
            "RawSize": bytes,
            "Reclaimable": format!("{}{percent}", format_bytes(reclaimable)),
            "RawReclaimable": reclaimable,
        })
    };
    let used = usage.images.iter().filter(|image| image.containers > 0).count();
    let is_running = |container: &&ContainerSpace| container.container.state.status.is_running();
    let running = usage.containers.iter().filter(is_running).count();
    let sum =
        |containers: &mut dyn Iterator<Item = &ContainerSpace>| containers.map(|one| one.size_bytes).sum();
    let all: u64 = sum(&mut usage.containers.iter());
    let stopped: u64 = sum(&mut usage.containers.iter().filter(|container| !is_running(container)));
    let images = usage.images_bytes;
    let is_used = |space: &&VolumeSpace| !space.volume.containers.is_empty();
    let used_volumes = usage.volumes.iter().filter(is_used).count();
    let volumes: u64 = usage.volumes.iter().map(|space| space.size_bytes).sum();
    let unused_volumes: u64 =
        usage.volumes.iter().filter(|space| !is_used(space)).map(|space| space.size_bytes).sum();
    let mut lines = vec![
        line("Images", usage.images.len(), used, images, images - usage.used_images_bytes),
        line("Containers", usage.containers.len(), running, all, stopped),
        line("Local Volumes", usage.volumes.len(), used_volumes, volumes, unused_volumes),
        line("Build Cache", usage.cache.len(), 0, usage.cache_bytes, usage.cache_bytes),
    ];
    if usage.leftover_bytes > 0 {
        lines.push(line("Leftovers", 1, 0, usage.leftover_bytes, usage.leftover_bytes));
    }
    lines.push(line("Other", 1, 0, usage.other_bytes, 0));
    lines
}

fn print_details(usage: &DiskUsage) -> Result<()> {
    print_line("Images space usage:\n")?;
    print_list(&usage.images.iter().map(image_row).collect::<Vec<_>>(), IMAGE_COLUMNS, None)?;
    print_line("\nContainers space usage:\n")?;
    print_list(&usage.containers.iter().map(container_row).collect::<Vec<_>>(), CONTAINER_COLUMNS, None)?;
    print_line("\nLocal Volumes space usage:\n")?;
    print_list(&usage.volumes.iter().map(volume_row).collect::<Vec<_>>(), VOLUME_COLUMNS, None)?;
    print_line(format_args!("\nBuild cache usage: {}\n", format_bytes(usage.cache_bytes)))?;
    print_list(&usage.cache.iter().map(cache_row).collect::<Vec<_>>(), CACHE_COLUMNS, None)
}

fn image_row(image: &ImageSpace) -> Value {
    let none = || "<none>".to_owned();
    let reference = image.record.reference.as_ref();
    let created = Timestamp::from_second(image.record.created_unix).unwrap_or_default();
    json!({
        "Repository": reference.map_or_else(none, Reference::familiar_repository),
        "Tag": reference.and_then(Reference::tag).map_or_else(none, str::to_owned),
        "ID": image.record.id().short(),
        "CreatedSince": format_ago(created),
        "Size": format_bytes(image.size_bytes),
        "SharedSize": format_bytes(image.shared_bytes),
        "UniqueSize": format_bytes(image.unique_bytes()),
        "Containers": image.containers,
    })
}

fn container_row(usage: &ContainerSpace) -> Value {
    let record = &usage.container.record;
    json!({
        "ID": record.id.short(),
        "Image": record.image,
        "Size": format_bytes(usage.size_bytes),
        "RunningFor": format_ago(record.created),
        "Status": status_text(usage.container.state.status),
        "Names": record.name.to_string(),
    })
}

fn volume_row(space: &VolumeSpace) -> Value {
    json!({
        "Name": space.volume.volume.record.name.as_str(),
        "Links": space.volume.containers.len(),
        "Size": format_bytes(space.size_bytes),
    })
}

fn cache_row(entry: &CacheSpace) -> Value {
    let last_used = Timestamp::try_from(entry.last_used).unwrap_or_default();
    json!({
        "ID": entry.id.chars().take(12).collect::<String>(),
        "Size": format_bytes(entry.size_bytes),
        "LastUsedSince": format_ago(last_used),
        "Shared": entry.is_shared,
    })
}
