//! `carrack system check`

use carrack_engine::{CheckDepth, CheckReport, Problem};
use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;
use crate::units::format_bytes;

pub const EXAMPLES: &str = "Examples:
  carrack system check
  carrack system check --quick
  carrack system check --repair";

/// Looks for damage: blobs against their digests, records against what they name, snapshots against their layers.
/// The exit code is 0 when nothing is wrong, else 1.
#[derive(Args)]
pub struct Check {
    /// Look at records and names only, not at every byte
    #[arg(short, long)]
    quick: bool,
    /// Remove what is damaged and make anew what can be; images that stay incomplete lose their names, so that the next
    /// pull brings them back
    #[arg(short, long)]
    repair: bool,
    /// With --repair: remove damaged containers too
    #[arg(short, long, requires = "repair")]
    force: bool,
}

impl Command for Check {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let depth = if self.quick { CheckDepth::Quick } else { CheckDepth::Full };
        if !self.repair {
            return conclude(&engine.check(depth)?);
        }
        let done = engine.repair(depth, self.force)?;
        for problem in &done.repaired {
            print_line(format_args!("Repaired: {}: {}", problem.object, problem.reason))?;
        }
        conclude(&done.report)
    }
}

fn conclude(report: &CheckReport) -> Result<u8> {
    report.problems.iter().try_for_each(print_problem)?;
    print_line(format_args!(
        "Checked: {} image names, {} blobs, {} snapshots, {} containers, {} volumes",
        report.images, report.blobs, report.snapshots, report.containers, report.volumes
    ))?;
    if let Some(leftovers) = report.leftovers.as_ref().filter(|leftovers| leftovers.count > 0) {
        let size = format_bytes(leftovers.bytes);
        print_line(format_args!(
            "Leftovers: {} ({size}); carrack system prune removes them",
            leftovers.count
        ))?;
    }
    print_line(format_args!("Problems: {}", report.problems.len()))?;
    Ok(u8::from(!report.problems.is_empty()))
}

fn print_problem(problem: &Problem) -> Result<()> {
    print_line(format_args!("{}: {}\n  hint: {}", problem.object, problem.reason, problem.remedy()))
}
