//! `carrack snapshot ...`: the store of snapshots, by hand.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use carrack_engine::{Lower, Mount, SnapshotName, snapshot_text};
use clap::Args;
use serde_json::{Value, json};

use super::{Command, for_each};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Columns, print_line, print_list, standard_output};
use crate::units;

const LIST: Columns = &[("KEY", "Key"), ("PARENT", "Parent"), ("KIND", "Kind")];
const USAGE: Columns = &[("KEY", "Key"), ("SIZE", "Size"), ("INODES", "Inodes"), ("ON DISK", "OnDisk")];

/// Lists snapshots, children before their parents.
#[derive(Args)]
pub struct List {
    /// table, json, or a Go template for each snapshot
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Print keys and chain IDs only
    #[arg(short, long)]
    quiet: bool,
}

impl Command for List {
    fn run(self, context: &Context) -> Result<u8> {
        let infos = context.engine()?.list_snapshots()?;
        if self.quiet {
            infos.iter().try_for_each(|info| print_line(snapshot_text(&info.name)))?;
            return Ok(0);
        }
        let row = |info: &carrack_engine::SnapshotInfo| {
            let kind = match (info.key(), info.is_view) {
                (None, _) => "committed",
                (Some(_), true) => "view",
                (Some(_), false) => "active",
            };
            let parent = info.parent.as_ref().map_or_else(String::new, ToString::to_string);
            json!({ "Key": snapshot_text(&info.name), "Parent": parent, "Kind": kind })
        };
        let rows: Vec<Value> = infos.iter().map(row).collect();
        print_list(&rows, LIST, self.format.as_deref())?;
        Ok(0)
    }
}

/// Makes a writable snapshot; it stays until it is removed or committed.
#[derive(Args)]
pub struct Prepare {
    /// The key of the new snapshot: a-z, 0-9 and -
    #[arg(value_name = "KEY")]
    key: String,
    /// What it stands on: a chain ID, or an image; nothing, if left out
    #[arg(value_name = "PARENT")]
    parent: Option<String>,
}

impl Command for Prepare {
    fn run(self, context: &Context) -> Result<u8> {
        context.engine()?.prepare_snapshot(&self.key, self.parent.as_deref(), false)?;
        print_line(self.key)?;
        Ok(0)
    }
}

/// Makes a read-only snapshot.
#[derive(Args)]
pub struct View {
    /// The key of the new snapshot: a-z, 0-9 and -
    #[arg(value_name = "KEY")]
    key: String,
    /// What it shows: a chain ID, or an image
    #[arg(value_name = "PARENT")]
    parent: String,
}

impl Command for View {
    fn run(self, context: &Context) -> Result<u8> {
        context.engine()?.prepare_snapshot(&self.key, Some(&self.parent), true)?;
        print_line(self.key)?;
        Ok(0)
    }
}

/// Prints what is mounted to see a snapshot; with a folder, mounts it there.
#[derive(Args)]
pub struct Mounts {
    /// The key of an active snapshot or a view
    #[arg(value_name = "KEY")]
    key: String,
    /// A folder to mount it at, in this mount namespace
    #[arg(value_name = "TARGET")]
    target: Option<PathBuf>,
}

impl Command for Mounts {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        match &self.target {
            Some(target) => engine.mount_snapshot_at(&self.key, target)?,
            None => mount_lines(&engine.snapshot_mount(&self.key)?).iter().try_for_each(print_line)?,
        }
        Ok(0)
    }
}

/// One line a mount, in the order in which they are made: type, source, options.
fn mount_lines(mount: &Mount) -> Vec<String> {
    let image = |image: &carrack_engine::ImageMount| {
        let devices = image.devices.iter().map(|device| format!(",device={}", device.display()));
        format!("erofs {} ro{}", image.index.display(), devices.collect::<String>())
    };
    match mount {
        Mount::Bind { source, read_only } => {
            vec![format!("bind {} {}", source.display(), if *read_only { "ro" } else { "rw" })]
        }
        Mount::Image(only) => vec![image(only)],
        Mount::Overlay { lowers, upper, work, .. } => {
            let mut lines = Vec::new();
            let mut options = Vec::new();
            for lower in lowers {
                match lower {
                    Lower::Folder(path) => options.push(format!("lowerdir+={}", path.display())),
                    Lower::Image(lower) => {
                        options.push(format!("lowerdir+=#{}", lines.len()));
                        lines.push(image(lower));
                    }
                }
            }
            let named = |name: &str, path: &Path| format!("{name}={}", path.display());
            options.extend(upper.as_deref().map(|upper| named("upperdir", upper)));
            options.extend(work.as_deref().map(|work| named("workdir", work)));
            lines.push(format!("overlay overlay {}", options.join(",")));
            lines
        }
    }
}

/// Makes an active snapshot, which must not be mounted, a committed one, and prints its chain ID.
#[derive(Args)]
pub struct Commit {
    /// The key of the active snapshot
    #[arg(value_name = "KEY")]
    key: String,
}

impl Command for Commit {
    fn run(self, context: &Context) -> Result<u8> {
        print_line(context.engine()?.commit_snapshot(&self.key)?)?;
        Ok(0)
    }
}

/// Writes what a snapshot changes on its parent as an OCI layer, an uncompressed tar: of an active snapshot its changes so
/// far, of a committed one the layer that it was made of.
#[derive(Args)]
pub struct Diff {
    /// A key, or the chain ID of a committed snapshot
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
    /// Write to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Command for Diff {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let Some(path) = &self.output else {
            let mut out = BufWriter::with_capacity(1 << 20, standard_output("diff")?);
            engine.diff_snapshot(&self.snapshot, &mut out)?;
            out.flush().map_err(|error| Failure::message(format!("cannot write the layer: {error}")))?;
            return Ok(0);
        };
        let failed = |error| Failure::message(format!("cannot write {}: {error}", path.display()));
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
        let diff_id = engine.diff_snapshot(&self.snapshot, &mut out)?;
        out.flush().map_err(failed)?;
        print_line(diff_id)?;
        Ok(0)
    }
}

/// Shows what snapshots hold themselves, without their parents: the length of their files, their inodes, and the blocks
/// on disk.
#[derive(Args)]
pub struct Usage {
    /// Keys or chain IDs; without any, all
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Print bytes
    #[arg(short, long)]
    bytes: bool,
    /// table, json, or a Go template for each snapshot
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl Command for Usage {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let mut names: Vec<SnapshotName> = Vec::new();
        for text in &self.snapshots {
            names.push(engine.find_snapshot(text)?);
        }
        if self.snapshots.is_empty() {
            names = engine.list_snapshots()?.into_iter().map(|info| info.name).collect();
        }
        let size = |bytes: u64| if self.bytes { bytes.to_string() } else { units::format_bytes(bytes) };
        let mut rows = Vec::new();
        for name in &names {
            let usage = engine.snapshot_usage(name)?;
            rows.push(json!({
                "Key": snapshot_text(name),
                "Size": size(usage.content.size_bytes),
                "Inodes": usage.content.inodes,
                "OnDisk": size(usage.disk_bytes),
            }));
        }
        print_list(&rows, USAGE, self.format.as_deref())?;
        Ok(0)
    }
}

/// Removes snapshots on which nothing stands.
#[derive(Args)]
pub struct Remove {
    /// Keys or chain IDs
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,
}

impl Command for Remove {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        for_each(&self.snapshots, |snapshot| {
            engine.remove_snapshot(snapshot)?;
            print_line(snapshot)
        })
    }
}
