//! `carrack completion`

use clap::Args;
use clap_complete::Shell;

use super::Command;
use crate::cli;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print;

pub const EXAMPLES: &str = "Examples:
  carrack completion bash > /etc/bash_completion.d/carrack
  carrack completion zsh > \"${fpath[1]}/_carrack\"
  carrack completion fish > ~/.config/fish/completions/carrack.fish";

/// Prints the completion script of a shell.
#[derive(Args)]
pub struct Completion {
    /// The shell
    shell: Shell,
}

impl Command for Completion {
    fn run(self, _context: &Context) -> Result<u8> {
        let mut script = Vec::new();
        let mut parser = cli::parser();
        parser.build();
        clap_complete::generate(self.shell, &mut parser, "carrack", &mut script);
        print(script)?;
        Ok(0)
    }
}
