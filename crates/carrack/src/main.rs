//! The `carrack` binary: arguments in, output and exit codes out. All work is done by the engine.

mod cli;
mod commands;
mod confirm;
mod context;
mod failure;
mod output;
mod progress;
mod runtime;
mod template;
mod terminal;
mod units;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // A stage is one half of an operation that needs a process of its own; it must start in microseconds, so it is
    // told apart before anything else happens.
    if arguments.first().is_some_and(|name| name == carrack_engine::STAGE_PROGRAM) {
        return ExitCode::from(carrack_engine::run_stage());
    }
    if let Some(arguments) = runtime::arguments(&arguments) {
        return runtime::run(&arguments);
    }
    cli::run(arguments)
}
