//! `carrack history`

use carrack_engine::HistoryRow;
use clap::{ArgAction, Args};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Columns, print_line, print_list};
use crate::units;

pub const EXAMPLES: &str = "Examples:
  carrack history busybox
  carrack history --no-trunc --format '{{.CreatedBy}}' busybox
  carrack history --human=false busybox";

const COLUMNS: Columns = &[
    ("IMAGE", "ID"),
    ("CREATED", "CreatedSince"),
    ("CREATED BY", "CreatedBy"),
    ("SIZE", "Size"),
    ("COMMENT", "Comment"),
];
/// As many characters of an instruction as Docker shows.
const SHOWN_CHARACTERS: usize = 45;

/// Shows how each layer of an image came to be, the last step first.
#[derive(Args)]
pub struct History {
    /// Name or ID
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Sizes and dates for people, in place of bytes and times
    #[arg(short = 'H', long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true,
          num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    human: bool,
    /// Print full IDs and instructions
    #[arg(long)]
    no_trunc: bool,
    /// Print IDs only
    #[arg(short, long)]
    quiet: bool,
    /// table, json, or a Go template for each step
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl Command for History {
    fn run(self, context: &Context) -> Result<u8> {
        let rows = context.engine()?.history(&self.image)?;
        if self.quiet {
            rows.iter().try_for_each(|row| print_line(self.id(row)))?;
            return Ok(0);
        }
        let rows: Vec<Value> = rows.iter().map(|row| self.row(row)).collect();
        print_list(&rows, COLUMNS, self.format.as_deref())?;
        Ok(0)
    }
}

impl History {
    fn id(&self, row: &HistoryRow) -> String {
        match &row.id {
            Some(id) if self.no_trunc => id.to_string(),
            Some(id) => id.short().to_owned(),
            None => "<missing>".to_owned(),
        }
    }

    fn row(&self, row: &HistoryRow) -> Value {
        let history = &row.history;
        let created: Option<Timestamp> = history.created.as_ref().and_then(|text| text.parse().ok());
        let created_at = created.map_or_else(String::new, |created| created.to_string());
        let created_since = match created {
            None => "N/A".to_owned(),
            Some(created) if self.human => units::format_ago(created),
            Some(_) => created_at.clone(),
        };
        let size = match self.human {
            true => units::format_bytes(row.size_bytes),
            false => row.size_bytes.to_string(),
        };
        json!({
            "ID": self.id(row),
            "CreatedSince": created_since,
            "CreatedAt": created_at,
            "CreatedBy": self.instruction(history.created_by.as_deref().unwrap_or_default()),
            "Size": size,
            "Comment": history.comment.as_deref().unwrap_or_default(),
        })
    }

    fn instruction(&self, text: &str) -> String {
        // One step is one line.
        let text = text.replace(['\t', '\n'], " ");
        match self.no_trunc || text.chars().count() <= SHOWN_CHARACTERS {
            true => text,
            false => text.chars().take(SHOWN_CHARACTERS - 1).chain(['…']).collect(),
        }
    }
}
