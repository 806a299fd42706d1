//! `carrack image tree`

use carrack_engine::{ImageTree, TreeLayer};
use clap::Args;
use serde_json::{Value, json};

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::{print_json, print_line};
use crate::template::Template;
use crate::units::format_bytes;

pub const EXAMPLES: &str = "Examples:
  carrack image tree app
  carrack image tree --format json app
  carrack image tree --format '{{.Wasted}}' app";

/// The longest part of an instruction that a line shows.
const MAX_INSTRUCTION: usize = 60;

/// Shows the layers of an image: their size, the images that have them too, and how much of each is wasted: files
/// that upper layers replace or remove.
#[derive(Args)]
pub struct Tree {
    /// Name or ID
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Print full digests and instructions
    #[arg(long)]
    no_trunc: bool,
    /// json, or a Go template for the whole
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl Command for Tree {
    fn run(self, context: &Context) -> Result<u8> {
        let template = self.format.as_deref().filter(|format| *format != "json");
        let template = template.map(Template::parse).transpose()?;
        let tree = context.engine()?.image_tree(&self.image)?;
        match (template, self.format) {
            (Some(template), _) => print_line(template.render(&tree_json(&tree))?)?,
            (None, Some(_)) => print_json(&tree_json(&tree))?,
            (None, None) => show(&tree, self.no_trunc)?,
        }
        Ok(0)
    }
}

fn total(tree: &ImageTree, of: impl Fn(&TreeLayer) -> u64) -> u64 {
    tree.layers.iter().map(of).sum()
}

fn show(tree: &ImageTree, full: bool) -> Result<()> {
    let (size, wasted) = (total(tree, |layer| layer.size_bytes), total(tree, |layer| layer.wasted_bytes));
    let percent = if size == 0 { 0.0 } else { wasted as f64 * 100.0 / size as f64 };
    print_line(format_args!("Image ID: {}", if full { tree.id.as_str() } else { tree.id.short() }))?;
    print_line(format_args!("Names:    [{}]", tree.names.join(" ")))?;
    print_line(format_args!("Size:     {}", format_bytes(size)))?;
    print_line(format_args!("Wasted:   {} ({percent:.1}%)", format_bytes(wasted)))?;
    print_line("Layers, base first")?;
    for (at, layer) in tree.layers.iter().enumerate() {
        let is_last = at + 1 == tree.layers.len();
        let (branch, stem) = if is_last { ("└──", "   ") } else { ("├──", "│  ") };
        let id = if full { layer.diff_id.0.as_str() } else { layer.diff_id.0.short() };
        let mut line = format!("{branch} {id}  {}", format_bytes(layer.size_bytes));
        if layer.wasted_files > 0 {
            let (bytes, files) = (format_bytes(layer.wasted_bytes), layer.wasted_files);
            let noun = if files == 1 { "file" } else { "files" };
            line.push_str(&format!("  {bytes} wasted in {files} {noun}"));
        }
        if !layer.shared_with.is_empty() {
            line.push_str(&format!("  shared with [{}]", layer.shared_with.join(" ")));
        }
        print_line(line)?;
        let instruction: String = printable(&layer.created_by, full);
        if !instruction.is_empty() {
            print_line(format_args!("{stem} {instruction}"))?;
        }
    }
    Ok(())
}

/// An instruction on one line, without what could steer a terminal.
fn printable(instruction: &str, full: bool) -> String {
    let clean = instruction.chars().map(|symbol| if symbol.is_control() { ' ' } else { symbol });
    let clean: String = clean.collect();
    match full || clean.chars().count() <= MAX_INSTRUCTION {
        true => clean,
        false => clean.chars().take(MAX_INSTRUCTION - 1).chain(['…']).collect(),
    }
}

fn tree_json(tree: &ImageTree) -> Value {
    let layer = |layer: &TreeLayer| {
        json!({
            "DiffID": layer.diff_id,
            "ChainID": layer.chain_id,
            "CreatedBy": layer.created_by,
            "Size": layer.size_bytes,
            "Wasted": layer.wasted_bytes,
            "WastedFiles": layer.wasted_files,
            "SharedWith": layer.shared_with,
        })
    };
    json!({
        "ID": tree.id,
        "Names": tree.names,
        "Size": total(tree, |layer| layer.size_bytes),
        "Wasted": total(tree, |layer| layer.wasted_bytes),
        "WastedFiles": total(tree, |layer| layer.wasted_files),
        "Layers": tree.layers.iter().map(layer).collect::<Vec<_>>(),
    })
}
