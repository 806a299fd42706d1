//! `carrack secret ...`

use std::io::{self, Read};
use std::path::PathBuf;

use carrack_engine::SecretRecord;
use clap::{ArgAction, Args};
use serde_json::{Value, json};

use super::{Command, for_each, pairs, show_each};
use crate::context::{self, Context};
use crate::failure::{Failure, Result, invalid};
use crate::output::{Columns, print_line, print_list};
use crate::units;

pub const CREATE_EXAMPLES: &str = "Examples:
  printf %s \"$TOKEN\" | carrack secret create token -
  carrack secret create --label team=sea tls.key ./tls.key
  carrack secret create --env=true token TOKEN";
pub const LIST_EXAMPLES: &str = "Examples:
  carrack secret ls
  carrack secret ls --filter name=tls --format '{{.Name}} {{.UpdatedAt}}'";

/// More than a secret may have, so that one that is too long is refused and not cut.
const MAX_INPUT_BYTES: u64 = 1 << 20;

const COLUMNS: Columns =
    &[("ID", "ID"), ("NAME", "Name"), ("DRIVER", "Driver"), ("CREATED", "Created"), ("UPDATED", "Updated")];

/// Keeps the content of a file, or standard input (-), as a secret, and prints its ID. Containers are shown it by
/// run --secret; nothing else shows it.
#[derive(Args)]
pub struct Create {
    /// Label of the secret
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// The driver: file is the only one
    #[arg(short, long, value_name = "DRIVER", default_value = "file")]
    driver: String,
    /// FILE is the name of a variable that has the data
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, value_name = "BOOL")]
    env: bool,
    /// Take the place of a secret of this name
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, value_name = "BOOL")]
    replace: bool,
    /// The name
    #[arg(value_name = "NAME")]
    name: String,
    /// The file; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Command for Create {
    fn run(self, context: &Context) -> Result<u8> {
        if self.driver != "file" {
            return Err(invalid("--driver", &self.driver, "file"));
        }
        let data = self.data()?;
        print_line(context.engine()?.create_secret(&self.name, &data, pairs(&self.label), self.replace)?)?;
        Ok(0)
    }
}

impl Create {
    fn data(&self) -> Result<Vec<u8>> {
        let shown = self.file.display().to_string();
        if self.env {
            let value = context::variable(&shown);
            return value
                .map(String::into_bytes)
                .ok_or_else(|| invalid("--env", &shown, "a variable that is set"));
        }
        let failed = |error: io::Error| Failure::message(format!("cannot read {shown}: {error}"));
        let mut data = Vec::new();
        match self.file.as_os_str() == "-" {
            true => io::stdin().lock().take(MAX_INPUT_BYTES).read_to_end(&mut data).map_err(failed)?,
            false => {
                let file = std::fs::File::open(&self.file).map_err(failed)?;
                file.take(MAX_INPUT_BYTES).read_to_end(&mut data).map_err(failed)?
            }
        };
        Ok(data)
    }
}

/// Lists secrets, without their data.
#[derive(Args)]
pub struct List {
    /// Print IDs only
    #[arg(short, long)]
    quiet: bool,
    /// Only secrets that this is true of: name=TEXT, id=TEXT
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// table, json, or a Go template for each secret
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl Command for List {
    fn run(self, context: &Context) -> Result<u8> {
        let mut secrets = context.engine()?.list_secrets()?;
        for filter in &self.filter {
            match filter.split_once('=') {
                Some(("name", text)) => secrets.retain(|secret| secret.name.contains(text)),
                Some(("id", text)) => secrets.retain(|secret| secret.id.starts_with(text)),
                _ => return Err(invalid("--filter", filter, "name=TEXT or id=TEXT")),
            }
        }
        if self.quiet {
            secrets.iter().try_for_each(|secret| print_line(&secret.id))?;
            return Ok(0);
        }
        print_list(&secrets.iter().map(row).collect::<Vec<_>>(), COLUMNS, self.format.as_deref())?;
        Ok(0)
    }
}

fn row(secret: &SecretRecord) -> Value {
    json!({
        "ID": secret.id,
        "Name": secret.name,
        "Driver": "file",
        "Created": units::format_ago(secret.created),
        "Updated": units::format_ago(secret.updated),
        "CreatedAt": secret.created.to_string(),
        "UpdatedAt": secret.updated.to_string(),
    })
}

/// Shows all of secrets but their data, as JSON.
#[derive(Args)]
pub struct Inspect {
    /// Go template for each secret, or json
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Names or IDs
    #[arg(value_name = "SECRET", required = true)]
    names: Vec<String>,
}

impl Command for Inspect {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        show_each(&self.names, self.format.as_deref(), |name| Ok(details(&engine.find_secret(name)?)))
    }
}

fn details(secret: &SecretRecord) -> Value {
    json!({
        "ID": secret.id,
        "CreatedAt": secret.created.to_string(),
        "UpdatedAt": secret.updated.to_string(),
        "Spec": {
            "Name": secret.name,
            "Driver": {"Name": "file", "Options": {}},
            "Labels": secret.labels,
        },
    })
}

/// Removes secrets. Containers that run keep what they have.
#[derive(Args)]
pub struct Remove {
    /// Every secret
    #[arg(short, long, conflicts_with = "names")]
    all: bool,
    /// Do not mind secrets that do not exist
    #[arg(short, long)]
    ignore: bool,
    /// Names or IDs
    #[arg(value_name = "SECRET", required_unless_present = "all")]
    names: Vec<String>,
}

impl Command for Remove {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let names = match self.all {
            true => engine.list_secrets()?.into_iter().map(|secret| secret.name).collect(),
            false => self.names,
        };
        for_each(&names, |name| match engine.remove_secret(name) {
            Err(error) if self.ignore && error.is_no_such_secret() => Ok(()),
            removed => print_line(removed?.id),
        })
    }
}

/// Tells by the exit code whether a secret is here: 0 when it is, 1 when it is not.
#[derive(Args)]
pub struct Exists {
    /// Name or ID
    #[arg(value_name = "SECRET")]
    name: String,
}

impl Command for Exists {
    fn run(self, context: &Context) -> Result<u8> {
        match context.engine()?.find_secret(&self.name) {
            Err(error) if error.is_no_such_secret() => Ok(1),
            found => found.map(|_| 0).map_err(Into::into),
        }
    }
}
