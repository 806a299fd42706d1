//! `carrack system start`, `carrack system stop`

use std::time::Duration;

use carrack_engine::Container;
use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

/// Starts the containers that are to run with the host: those with the restart policy always; those with
/// unless-stopped or on-failure that no user has stopped. What a reboot has cut short is cleared away first.
#[derive(Args)]
pub struct Start {}

/// Stops all containers, as the host goes down: `system start` starts them again as their restart policies say.
#[derive(Args)]
pub struct Stop {
    /// Seconds to wait before killing; without it each container's own, else 10
    #[arg(short, long, value_name = "SECONDS")]
    time: Option<u64>,
}

impl Command for Start {
    fn run(self, context: &Context) -> Result<u8> {
        let mut report = Report::default();
        context.engine()?.start_by_policy(&mut |container, result| report.take(container, result))?;
        report.finish()
    }
}

impl Command for Stop {
    fn run(self, context: &Context) -> Result<u8> {
        let mut report = Report::default();
        let timeout = self.time.map(Duration::from_secs);
        context.engine()?.stop_for_host(timeout, &mut |container, result| report.take(container, result))?;
        report.finish()
    }
}

/// One that fails is reported, the others are done all the same.
#[derive(Default)]
struct Report {
    exit_code: u8,
    done: Vec<String>,
}

impl Report {
    fn take(&mut self, container: &Container, result: carrack_engine::Result<()>) {
        match result {
            Ok(()) => self.done.push(container.record.name.to_string()),
            Err(error) => {
                crate::failure::Failure::from(error).report();
                self.exit_code = 1;
            }
        }
    }

    fn finish(self) -> Result<u8> {
        self.done.iter().try_for_each(print_line)?;
        Ok(self.exit_code)
    }
}
