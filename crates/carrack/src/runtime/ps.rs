//! `ps`: the rows of the host's ps(1) that are of the container, or its pids.

use std::process::Command;

use clap::Args;
use serde_json::json;

use super::Context;
use crate::failure::{Failure, Result};
use crate::output;

/// Lists the processes of a container.
#[derive(Args)]
pub struct Ps {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// The id of the container
    #[arg(value_name = "ID")]
    id: String,
    /// Options of ps(1); -ef when there are none
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

impl Ps {
    pub fn run(self, context: &Context) -> Result<u8> {
        let pids = context.runtime.find(&self.id)?.processes()?;
        if self.format == "json" {
            output::print_json(&json!(pids))?;
            return Ok(0);
        }
        let options = if self.options.is_empty() { vec!["-ef".to_owned()] } else { self.options };
        let made = Command::new("ps").args(&options).output();
        let made = made.map_err(|error| Failure::message(format!("cannot run ps: {error}")))?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).trim().to_owned();
            return Err(Failure::message(format!("cannot list processes: ps {}: {said}", options.join(" "))));
        }
        output::print(rows(&String::from_utf8_lossy(&made.stdout), &pids)?)?;
        Ok(0)
    }
}

fn rows(text: &str, pids: &[i32]) -> Result<String> {
    let mut lines = text.lines();
    let heading = lines.next().unwrap_or_default();
    let place = heading.split_ascii_whitespace().position(|word| word == "PID");
    let place = place.ok_or_else(|| Failure::message("expected ps to print a column PID"))?;
    let is_ours = |line: &&str| {
        let pid = line.split_ascii_whitespace().nth(place).and_then(|word| word.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    let shown = std::iter::once(heading).chain(lines.filter(is_ours));
    Ok(shown.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_of_the_container_are_shown() {
        let text = "UID PID CMD\nroot 1 init\nroot 22 PID 1\nroot 3 sh\n";
        assert_eq!(rows(text, &[22, 3]).unwrap(), "UID PID CMD\nroot 22 PID 1\nroot 3 sh\n");
        assert!(rows("UID CMD\n", &[]).is_err());
    }
}
