//! `carrack events`

use std::io::{self, Write};

use carrack_engine::{EventFilters, EventSpan, LifeEvent, event_json, event_text, parse_time};
use clap::{ArgAction, Args};
use jiff::Timestamp;

use super::Command;
use crate::context::Context;
use crate::failure::{Result, invalid};
use crate::output::shown;
use crate::template::Template;

pub const EXAMPLES: &str = "Examples:
  carrack events
  carrack events --since 10m --stream=false
  carrack events --filter type=container --filter event=die --format '{{json .}}'
  carrack events --since 1h --until 5m --filter container=web";

/// Shows what happens to containers and images.
#[derive(Args)]
pub struct Events {
    /// Begin with what happened after this time (RFC 3339), or this long ago (10m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End with what happens before this time (RFC 3339), or this long ago (10m)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only events that fit: container, image, event, type or label, as in event=die
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// json, or a Go template for each event
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Go on as things happen; without it, show what has happened and end
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    stream: bool,
}

impl Command for Events {
    fn run(self, context: &Context) -> Result<u8> {
        let span = EventSpan {
            since: self.since.as_deref().map(|text| time("--since", text)).transpose()?,
            until: self.until.as_deref().map(|text| time("--until", text)).transpose()?,
            follow: self.stream,
        };
        let filters = EventFilters::parse(&self.filter)?;
        let template = self.format.as_deref().map(Template::parse_format).transpose()?;
        let line = |event: &LifeEvent| match &template {
            None => Ok(shown(&event_text(event)).into_owned()),
            Some(template) => template.render(&event_json(event)),
        };
        let mut failure = None;
        let done = context.engine()?.events(span, &filters, &mut |event| match line(event) {
            Ok(line) => {
                let mut stdout = io::stdout().lock();
                match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
                    result => result,
                }
            }
            Err(wrong) => {
                failure = Some(wrong);
                Err(io::ErrorKind::Other.into())
            }
        });
        if let Some(failure) = failure {
            return Err(failure.into());
        }
        done?;
        Ok(0)
    }
}

fn time(flag: &str, text: &str) -> Result<Timestamp> {
    let expected = "a time as in 2026-11-21T12:00:00Z, or a duration as in 10m";
    parse_time(text).ok_or_else(|| invalid(flag, text, expected))
}
