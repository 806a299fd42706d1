//! `carrack logs`

use std::io::{self, Write};
use std::sync::Mutex;

use carrack_engine::{Engine, Entry, Selection, Stream, parse_time};
use clap::Args;
use jiff::Timestamp;

use super::Command;
use crate::context::Context;
use crate::failure::{Failure, Result, invalid};

pub const EXAMPLES: &str = "Examples:
  carrack logs web
  carrack logs --follow --tail 20 web
  carrack logs --since 10m --timestamps web
  carrack logs --names web db";

/// Shows what containers have printed.
#[derive(Args)]
pub struct Logs {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// Go on as the container prints, until it ends
    #[arg(short, long)]
    follow: bool,
    /// Show the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Show what --log-opt labels, env and tag add to each line
    #[arg(long)]
    details: bool,
    /// Show the name of the container before each line
    #[arg(long)]
    names: bool,
    /// How many lines from the end, or all
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all", allow_negative_numbers = true)]
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
                // Docker takes a negative number for all.
                "all" => None,
                lines if lines.parse::<i64>().is_ok_and(|lines| lines < 0) => None,
                lines => Some(lines.parse().map_err(|_| invalid("--tail", lines, "a number or all"))?),
            },
            since: self.since.as_deref().map(|text| time("--since", text)).transpose()?,
            until: self.until.as_deref().map(|text| time("--until", text)).transpose()?,
        };
        let engine = context.engine()?;
        // A name that is none is told before anything is printed.
        for container in &self.containers {
            engine.find_container(container)?;
        }
        let turn = Mutex::new(());
        if !self.follow {
            self.containers
                .iter()
                .try_for_each(|container| self.show(&engine, container, &selection, &turn))?;
            return Ok(0);
        }
        let results: Vec<Result<()>> = std::thread::scope(|scope| {
            let show = |container| self.show(&engine, container, &selection, &turn);
            let threads: Vec<_> =
                self.containers.iter().map(|container| scope.spawn(move || show(container))).collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|_| Err(Failure::message("a thread panicked".to_owned())))
                })
                .collect()
        });
        results.into_iter().collect::<Result<()>>().map(|()| 0)
    }
}

impl Logs {
    fn show(&self, engine: &Engine, container: &str, selection: &Selection, turn: &Mutex<()>) -> Result<()> {
        let name = engine.find_container(container)?.record.name;
        engine.logs(container, selection, self.follow, &mut |entry| {
            let line = self.line(name.as_str(), entry);
            let _turn = turn.lock();
            match entry.stream {
                Stream::Stdout => io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush()),
                Stream::Stderr => io::stderr().write_all(line.as_bytes()),
            }
        })?;
        Ok(())
    }

    fn line(&self, name: &str, entry: &Entry<'_>) -> String {
        let name = if self.names { format!("{name} ") } else { String::new() };
        // Docker shows nine digits, so that lines stand below each other.
        let time = if self.timestamps { format!("{:.9} ", entry.time) } else { String::new() };
        let details = match self.details {
            true => {
                let pairs: Vec<_> =
                    entry.attrs.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} ", pairs.join(","))
            }
            false => String::new(),
        };
        format!("{name}{time}{details}{}", entry.log)
    }
}

fn time(flag: &str, text: &str) -> Result<Timestamp> {
    let expected = "a time as in 2026-11-21T12:00:00Z, or a duration as in 10m";
    parse_time(text).ok_or_else(|| invalid(flag, text, expected))
}
