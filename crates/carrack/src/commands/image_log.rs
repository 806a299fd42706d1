//! `carrack image log`

use carrack_engine::LogEntry;
use clap::Args;
use serde_json::{Value, json};

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Columns, print_list};
use crate::units;

pub const EXAMPLES: &str = "Examples:
  carrack image log app
  carrack image log --limit 3 --format '{{.Name}} {{.Digest}}' app:latest
  carrack run --rm 'app@{1}'
  carrack tag 'app@{1}' app";

const COLUMNS: Columns = &[
    ("NAME", "Name"),
    ("IMAGE ID", "ID"),
    ("SINCE", "Since"),
    ("UNTIL", "Until"),
    ("SIZE", "Size"),
    ("STATE", "State"),
];

/// Shows what a name means and has meant, the newest first. `NAME@{1}` is an image's name wherever one is taken.
#[derive(Args)]
pub struct Log {
    /// The name
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
    /// At most so many lines
    #[arg(short = 'n', long, value_name = "NUMBER")]
    limit: Option<usize>,
    /// Print full IDs
    #[arg(long)]
    no_trunc: bool,
    /// table, json, or a Go template for each line
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl Command for Log {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let log = engine.image_log(&self.name)?;
        let here = engine.image_ids()?;
        let entries = log.iter().enumerate().take(self.limit.unwrap_or(usize::MAX));
        let row = |(number, entry): (usize, &LogEntry)| {
            let record = &entry.record;
            let name = record.reference.as_ref().map_or_else(String::new, |name| name.familiar());
            let time =
                |time: Option<jiff::Timestamp>| time.map_or(String::new(), |time| format!("{time:.0}"));
            let id = if self.no_trunc { record.id().as_str() } else { record.id().short() };
            json!({
                "Name": format!("{name}@{{{number}}}"),
                "Number": number,
                "ID": id,
                "Digest": record.target.digest,
                "Since": time(record.tagged),
                "Until": time(entry.replaced),
                "Size": units::format_bytes(record.size_bytes),
                "State": if here.contains(record.id()) { "here" } else { "removed" },
            })
        };
        let rows: Vec<Value> = entries.map(row).collect();
        print_list(&rows, COLUMNS, self.format.as_deref())?;
        Ok(0)
    }
}
