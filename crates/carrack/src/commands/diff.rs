//! `carrack diff`

use carrack_engine::ChangeKind;
use clap::Args;
use serde_json::{Map, Value, json};

use super::Command;
use crate::context::Context;
use crate::failure::{Result, invalid};
use crate::output::{print_json, print_line};

pub const EXAMPLES: &str = "Examples:
  carrack diff web
  carrack diff --format json web
  carrack diff localhost/app:1";

/// Shows what has changed in the files of a container since it was created, or what the top layer of an image changes:
/// A for added, C for changed, D for deleted.
#[derive(Args)]
pub struct Diff {
    /// json for an object with the lists added, changed and deleted
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// A container, or else an image: name or ID
    #[arg(value_name = "NAME")]
    name: String,
}

impl Command for Diff {
    fn run(self, context: &Context) -> Result<u8> {
        let is_json = match self.format.as_deref() {
            None => false,
            Some("json") => true,
            Some(other) => return Err(invalid("--format", other, "json")),
        };
        let changes = context.engine()?.file_changes(&self.name)?;
        if !is_json {
            let line = |(path, kind): (&std::path::PathBuf, &ChangeKind)| {
                print_line(format_args!("{} {}", kind.letter(), path.display()))
            };
            return changes.iter().try_for_each(line).map(|()| 0);
        }
        let mut object = Map::new();
        let kinds = [
            (ChangeKind::Changed, "changed"),
            (ChangeKind::Added, "added"),
            (ChangeKind::Deleted, "deleted"),
        ];
        for (kind, name) in kinds {
            let paths: Vec<_> = changes.iter().filter(|(_, of)| **of == kind).map(|(path, _)| path).collect();
            if !paths.is_empty() {
                object.insert(name.to_owned(), json!(paths));
            }
        }
        print_json(&Value::Object(object))?;
        Ok(0)
    }
}
