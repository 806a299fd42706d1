//! `carrack top`

mod columns;

use clap::Args;

use self::columns::{Column, Host};
use super::Command;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::print_table_of;

pub const EXAMPLES: &str = "Examples:
  carrack top web
  carrack top web aux
  carrack top web -o pid,user,args
  carrack top web pid hpid seccomp capeff";

/// Shows the processes of a container as the host sees them; nothing of the image is run.
#[derive(Args)]
pub struct Top {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Options of ps (-ef, aux, -o LIST), or podman's names of columns
    #[arg(value_name = "OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

impl Command for Top {
    fn run(self, context: &Context) -> Result<u8> {
        let columns = columns(&self.options)?;
        let processes = context.engine()?.processes(&self.container)?;
        let host = Host::read();
        let heading = columns.iter().map(|column| column.heading.to_owned()).collect();
        let rows = processes
            .iter()
            .map(|process| columns.iter().map(|column| (column.cell)(process, &host)).collect());
        print_table_of(std::iter::once(heading).chain(rows).collect())?;
        Ok(0)
    }
}

/// What is to be shown: Docker passes its options on to ps, podman has names of its own.
fn columns(options: &[String]) -> Result<Vec<&'static Column>> {
    let unknown = |option: &str| {
        Failure::message(format!(
            "unknown option {option:?} of top: expected -ef, aux, -o with columns of ps, or columns of podman"
        ))
    };
    let named = |names: &str, find: fn(&str) -> Option<&'static Column>| {
        let names = names.split([',', ' ']).filter(|name| !name.is_empty());
        names.map(|name| find(name).ok_or_else(|| unknown(name))).collect::<Result<Vec<_>>>()
    };
    let mut chosen = Vec::new();
    let mut options = options.iter();
    let mut preset = columns::FULL;
    while let Some(option) = options.next() {
        match option.as_str() {
            "-ef" | "-e" | "-f" | "-A" | "-fe" => preset = columns::FULL,
            "aux" | "-aux" | "u" | "auxww" | "-eF" => preset = columns::USER,
            "-o" | "-eo" | "-Ao" | "o" => {
                let names = options.next().ok_or_else(|| unknown(option))?;
                chosen.extend(named(names, columns::of_ps)?);
            }
            option => match option.strip_prefix("-eo").or(option.strip_prefix("-o")) {
                Some(names) => chosen.extend(named(names, columns::of_ps)?),
                None => chosen.extend(named(option, columns::of_podman)?),
            },
        }
    }
    match chosen.is_empty() {
        true => named(preset, columns::of_ps),
        false => Ok(chosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headings(options: &[&str]) -> Option<String> {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let columns = columns(&options).ok()?;
        Some(columns.iter().map(|column| column.heading).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn options_of_ps_and_columns_of_podman() {
        for (options, expected) in [
            (&[][..], "UID PID PPID C STIME TTY TIME CMD"),
            (&["-ef"], "UID PID PPID C STIME TTY TIME CMD"),
            (&["aux"], "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            (&["-o", "pid,comm"], "PID COMMAND"),
            (&["-eopid,args"], "PID COMMAND"),
            (&["pid", "hpid,seccomp"], "PID HPID SECCOMP"),
        ] {
            assert_eq!(headings(options).as_deref(), Some(expected), "{options:?}");
        }
        for wrong in [&["-o"][..], &["-o", "nope"], &["nope"], &["--forest"]] {
            assert_eq!(headings(wrong), None, "{wrong:?}");
        }
    }
}
