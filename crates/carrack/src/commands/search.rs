//! `carrack search`

use carrack_oci::Reference;
use clap::Args;
use serde_json::{Value, json};

use super::Command;
use super::registry_flags::RegistryFlags;
use crate::context::Context;
use crate::failure::{Result, invalid};
use crate::output::{Columns, print_list};

pub const EXAMPLES: &str = "Examples:
  carrack search registry.example/app
  carrack search registry.example/
  carrack search --list-tags --limit 100 registry.example/team/app";

const COLUMNS: Columns = &[("INDEX", "Index"), ("NAME", "Name")];
const TAG_COLUMNS: Columns = &[("NAME", "Name"), ("TAG", "Tag")];
const DEFAULT_LIMIT: usize = 25;
const DOCKER_HUB: &str = "docker.io";

/// Searches the catalogue of a registry for repositories whose names contain a text. Registries without a catalogue,
/// Docker Hub among them, cannot be searched; the tags of a repository can be listed everywhere.
#[derive(Args)]
pub struct Search {
    /// Registry and text; without a text, all repositories
    #[arg(value_name = "REGISTRY/TERM")]
    term: String,
    /// At most so many lines; 0 is the default
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_LIMIT)]
    limit: usize,
    /// List the tags of the repository that is named
    #[arg(long)]
    list_tags: bool,
    /// stars=NUMBER, is-official=BOOL or is-automated=BOOL; a catalogue knows neither, so all have 0 stars and are
    /// not official
    #[arg(short, long = "filter", value_name = "FILTER", conflicts_with = "list_tags")]
    filters: Vec<String>,
    /// table, json, or a Go template for each line
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Accepted for Docker's sake: nothing is cut
    #[arg(long = "no-trunc")]
    _no_trunc: bool,
    #[command(flatten)]
    registry: RegistryFlags,
}

impl Command for Search {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = self.registry.apply(context).engine()?;
        let limit = if self.limit == 0 { DEFAULT_LIMIT } else { self.limit };
        if self.list_tags {
            let repository: Reference = self.term.parse()?;
            let name = repository.repository().to_string();
            let tags = engine.list_tags(&repository, limit)?;
            let rows: Vec<Value> = tags.into_iter().map(|tag| json!({"Name": name, "Tag": tag})).collect();
            print_list(&rows, TAG_COLUMNS, self.format.as_deref())?;
            return Ok(0);
        }
        let admits_any = self.filters.iter().try_fold(true, |all, text| Ok(all && admits_plain(text)?));
        let (registry, text) = split(&self.term);
        let found = match admits_any {
            Ok(true) => engine.search(registry, text, limit)?,
            Ok(false) => Vec::new(),
            Err(failure) => return Err(failure),
        };
        let row = |name: String| {
            json!({
                "Index": registry,
                "Name": format!("{registry}/{name}"),
                "Description": "",
                "Stars": 0,
                "StarCount": 0,
                "Official": "",
                "IsOfficial": false,
                "Automated": "",
                "IsAutomated": false,
            })
        };
        let rows: Vec<Value> = found.into_iter().map(row).collect();
        print_list(&rows, COLUMNS, self.format.as_deref())?;
        Ok(0)
    }
}

/// Takes registry and text apart; a first part that looks like no host belongs to the text.
fn split(term: &str) -> (&str, &str) {
    let (first, rest) = term.split_once('/').unwrap_or((term, ""));
    let is_host = first.contains([':', '.']) || first == "localhost";
    if is_host { (first, rest) } else { (DOCKER_HUB, term) }
}

/// Whether a filter lets a repository pass of which only the name is known.
fn admits_plain(filter: &str) -> Result<bool> {
    let wrong =
        || invalid("--filter", filter, "stars=NUMBER, is-official=true or false, is-automated=true or false");
    let (key, value) = filter.split_once('=').unwrap_or((filter, "true"));
    match key {
        "stars" => value.parse::<u64>().map(|stars| stars == 0).map_err(|_| wrong()),
        "is-official" | "is-automated" => value.parse::<bool>().map(|wanted| !wanted).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_begins_with_its_registry() {
        assert_eq!(split("localhost:5000/team/app"), ("localhost:5000", "team/app"));
        assert_eq!(split("registry.example/"), ("registry.example", ""));
        assert_eq!(split("registry.example"), ("registry.example", ""));
        assert_eq!(split("team/app"), (DOCKER_HUB, "team/app"));
    }
}
