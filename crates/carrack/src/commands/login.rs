//! `carrack login`

use std::io::{self, IsTerminal, Read};

use clap::Args;

use super::Command;
use super::registry_flags::RegistryFlags;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack login registry.example
  echo \"$PASSWORD\" | carrack login -u me --password-stdin localhost:5000";

/// The registry that a login without a name is for, as in Docker.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// Tries the credentials of a registry, and keeps them for later commands.
#[derive(Args)]
pub struct Login {
    /// HOST[:PORT] of the registry
    #[arg(value_name = "REGISTRY", default_value = DEFAULT_REGISTRY)]
    registry: String,
    /// User name
    #[arg(short, long)]
    username: Option<String>,
    /// Password; other users can see it in the list of processes, --password-stdin is safer
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    registry_flags: RegistryFlags,
}

impl Command for Login {
    fn run(self, context: &Context) -> Result<u8> {
        let username = match &self.username {
            Some(username) => username.clone(),
            None => prompt_username()?,
        };
        let password = match (&self.password, self.password_stdin) {
            (Some(password), _) => password.clone(),
            (None, true) => password_from_stdin()?,
            (None, false) => prompt_password()?,
        };
        self.registry_flags.apply(context).engine()?.login(&self.registry, &username, &password)?;
        print_line("Login Succeeded")?;
        Ok(0)
    }
}

fn needs_terminal(what: &str) -> Failure {
    Failure::message(format!(
        "cannot ask for the {what}: standard input is no terminal (use --username and --password-stdin)"
    ))
}

fn prompt_username() -> Result<String> {
    if !io::stdin().is_terminal() {
        return Err(needs_terminal("user name"));
    }
    crate::output::print("Username: ")?;
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .map_err(|error| Failure::message(format!("cannot read the user name: {error}")))?;
    Ok(line.trim().to_owned())
}

fn prompt_password() -> Result<String> {
    if !io::stdin().is_terminal() {
        return Err(needs_terminal("password"));
    }
    rpassword::prompt_password("Password: ")
        .map_err(|error| Failure::message(format!("cannot read the password: {error}")))
}

/// Reads at most 64 KiB and takes the line's end away.
fn password_from_stdin() -> Result<String> {
    let mut password = String::new();
    let read = io::stdin().take(64 << 10).read_to_string(&mut password);
    read.map_err(|error| Failure::message(format!("cannot read the password: {error}")))?;
    Ok(password.trim_end_matches(['\n', '\r']).to_owned())
}
