//! `carrack cp`

use std::io::{self, Write};
use std::path::PathBuf;

use carrack_engine::{CopyEnd, CopyFiles};
use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::standard_output;
use crate::units::format_bytes;

pub const EXAMPLES: &str = "Examples:
  carrack cp web:/etc/nginx/nginx.conf .
  carrack cp site/. web:/usr/share/nginx/html
  carrack cp web:/var/log - | tar -t
  tar -c site | carrack cp - web:/srv";

/// Copies files between a container, running or not, and this machine. A path in a container begins at its root.
#[derive(Args)]
pub struct Cp {
    /// Keep users and groups
    #[arg(short, long)]
    archive: bool,
    /// Follow the source where it is a link
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Let a folder take the place of a file, and the reverse
    #[arg(long)]
    overwrite: bool,
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
    /// CONTAINER:PATH, a path of this machine, or - for a tar on standard input
    #[arg(value_name = "SOURCE")]
    source: String,
    /// CONTAINER:PATH, a path of this machine, or - for a tar on standard output
    #[arg(value_name = "DESTINATION")]
    destination: String,
}

impl Command for Cp {
    fn run(self, context: &Context) -> Result<u8> {
        let (source, destination) = (end(&self.source), end(&self.destination));
        if !matches!(source, CopyEnd::Container { .. }) && !matches!(destination, CopyEnd::Container { .. }) {
            return Err(Failure::message("must specify at least one container source or destination"));
        }
        let options =
            CopyFiles { archive: self.archive, follow_links: self.follow_link, overwrite: self.overwrite };
        let mut input = io::stdin();
        let mut output: Box<dyn Write + Send> = match destination {
            CopyEnd::Stream => Box::new(standard_output("copy")?),
            _ => Box::new(io::sink()),
        };
        let bytes =
            context.engine()?.copy_files(&source, &destination, options, (&mut input, &mut *output))?;
        output.flush().map_err(|error| Failure::message(format!("cannot write the tar: {error}")))?;
        if !self.quiet && destination != CopyEnd::Stream {
            let text = format!("Successfully copied {} to {}\n", format_bytes(bytes), self.destination);
            let _ = io::stderr().write_all(text.as_bytes());
        }
        Ok(0)
    }
}

/// Docker's rule: what begins like a path is one, else a colon ends the name of a container.
fn end(text: &str) -> CopyEnd {
    match text.split_once(':') {
        _ if text == "-" => CopyEnd::Stream,
        Some((name, path)) if !name.is_empty() && !text.starts_with(['/', '.']) => {
            CopyEnd::Container { name: name.to_owned(), path: PathBuf::from(path) }
        }
        _ => CopyEnd::Host(PathBuf::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_after_a_name_means_a_container() {
        let container = |name: &str, path: &str| CopyEnd::Container { name: name.into(), path: path.into() };
        assert_eq!(end("web:/etc/x"), container("web", "/etc/x"));
        assert_eq!(end("web:etc:x"), container("web", "etc:x"));
        assert_eq!(end("./web:x"), CopyEnd::Host("./web:x".into()));
        assert_eq!(end("/web:x"), CopyEnd::Host("/web:x".into()));
        assert_eq!(end("file"), CopyEnd::Host("file".into()));
        assert_eq!(end("-"), CopyEnd::Stream);
    }
}
