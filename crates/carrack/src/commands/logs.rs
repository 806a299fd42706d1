//! `carrack logs`

use std::io::{self, Write};

use carrack_engine::{Selection, Stream, parse_time};
use clap::Args;
use jiff::Timestamp;

use super::Command;
use crate::context::Context;
use crate::failure::{Result, invalid};

pub const EXAMPLES: &str = "Examples:
  carrack logs web
  carrack logs --follow --tail 20 web
  carrack logs --since 10m --timestamps web";

/// Shows what a container has printed.
#[derive(Args)]
pub struct Logs {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Go on as the container prints, until it ends
    #[arg(short, long)]
    follow: bool,
    /// Show the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// How many lines from the end, or all
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    tail: String,
    /// Only what was printed after this time (RFC 3339), or this long ago (10m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what was printed before this time (RFC 3339), or this long ago (10m)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Command for Logs {
    fn run(self, context: &Context) -> Result<u8> {
        let selection = Selection {
            tail: match self.tail.as_str() {
                "all" => None,
                lines => Some(lines.parse().map_err(|_| invalid("--tail", lines, "a number or all"))?),
            },
            since: self.since.as_deref().map(|text| time("--since", text)).transpose()?,
            until: self.until.as_deref().map(|text| time("--until", text)).transpose()?,
        };
        context.engine()?.logs(&self.container, &selection, self.follow, &mut |entry| {
            let time = if self.timestamps { format!("{} ", entry.time) } else { String::new() };
            let line = format!("{time}{}", entry.log);
            match entry.stream {
                Stream::Stdout => io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush()),
                Stream::Stderr => io::stderr().write_all(line.as_bytes()),
            }
        })?;
        Ok(0)
    }
}

fn time(flag: &str, text: &str) -> Result<Timestamp> {
    let expected = "a time as in 2026-11-21T12:00:00Z, or a duration as in 10m";
    parse_time(text).ok_or_else(|| invalid(flag, text, expected))
}
