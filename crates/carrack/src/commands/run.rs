//! `carrack run`

use std::path::PathBuf;

use carrack_engine::{ContainerId, DetachKeys, Engine};
use clap::{ArgAction, Args, ValueEnum};

use super::Command;
use super::container_flags::{ContainerFlags, PreservedDescriptors, id_file};
use crate::context::Context;
use crate::failure::{Failure, Result, invalid};
use crate::output::print_line;
use crate::terminal::{self, Attendance};

pub const EXAMPLES: &str = "Examples:
  carrack run --rm -it debian:bookworm bash
  carrack run -d --name web -p 8080:80 -m 256m --pids-limit 100 registry.example/team/app
  carrack run --rm --network none --read-only --tmpfs /tmp app
  carrack run --rm -v \"$PWD:/work:ro\" -w /work app make";

/// Runs a command in a new container. The exit code is that of the command; 125 when carrack failed, 126 when the
/// command cannot be executed, 127 when it is not found, 128 and the number of the signal that ended it.
#[derive(Args)]
pub struct Run {
    /// Leave the container running, and print its ID
    #[arg(short, long)]
    detach: bool,
    /// Connect this standard stream, and of the others only those that are named too
    #[arg(short, long, value_name = "STREAM", ignore_case = true)]
    attach: Vec<Stream>,
    /// Keys that leave the session, as in ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
    /// Pass signals on to the container
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    sig_proxy: bool,
    /// Write the process ID of the container's first process to this file
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Write the process ID of the container's monitor to this file
    #[arg(long, value_name = "FILE")]
    conmon_pidfile: Option<PathBuf>,
    /// Remove the image too when the container ends, unless something else uses it
    #[arg(long, conflicts_with = "detach")]
    rmi: bool,
    #[command(flatten)]
    preserved: PreservedDescriptors,
    #[command(flatten)]
    flags: ContainerFlags,
}

/// A standard stream.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

impl Command for Run {
    fn run(self, context: &Context) -> Result<u8> {
        self.run_container(context).map_err(Failure::of_run)
    }
}

impl Run {
    fn run_container(mut self, context: &Context) -> Result<u8> {
        if self.detach && !self.attach.is_empty() {
            return Err(invalid("--attach", "with --detach", "one of the two"));
        }
        let descriptors = self.preserved.take()?;
        self.flags.rm |= self.rmi;
        let engine = self.flags.engine(context)?;
        let attendance = self.attendance();
        if !self.detach {
            attendance.check()?;
        }
        let files = [(self.pidfile, true), (self.conmon_pidfile, false)];
        let starting = self.flags.create_to_start(&engine, !self.detach, &descriptors)?;
        let id = starting.record().id.clone();
        let image = self.rmi.then(|| starting.record().image_id.to_string());
        if self.detach {
            starting.start()?;
            write_pids(&engine, &id, &files)?;
            print_line(&id)?;
            return Ok(0);
        }
        // Docker: who sees nothing of the container at least learns its ID.
        let shows_id = !attendance.stdout && !attendance.stderr;
        let mut attendant = attendance.begin()?;
        let session = attendant.while_starting(|signals| starting.start_attached(signals))?;
        write_pids(&engine, &id, &files)?;
        if shows_id {
            print_line(&id)?;
        }
        let exit_code = terminal::attend(&session, attendant)?;
        image.map(|image| remove_unused_image(&engine, &image)).transpose()?;
        Ok(exit_code)
    }

    fn attendance(&self) -> Attendance {
        let attendance = Attendance::new(self.flags.interactive, self.flags.tty);
        let is_attached = |stream| self.attach.is_empty() || self.attach.contains(&stream);
        Attendance {
            interactive: self.flags.interactive && is_attached(Stream::Stdin),
            stdout: is_attached(Stream::Stdout),
            stderr: is_attached(Stream::Stderr),
            detach_keys: self.detach_keys.clone(),
            proxy_signals: self.sig_proxy,
            ..attendance
        }
    }
}

/// Writes the files of `--pidfile` (`true`) and `--conmon-pidfile`; a container that has ended has no process.
fn write_pids(engine: &Engine, id: &ContainerId, files: &[(Option<PathBuf>, bool)]) -> Result<()> {
    for (file, is_of_init) in files {
        let Some(file) = file else { continue };
        let state = match engine.find_container(id.as_str()) {
            Err(error) if error.is_no_such_container() => continue,
            result => result?.state,
        };
        let process = if *is_of_init { state.init } else { state.monitor };
        process.map(|process| id_file::write_pid(file, process.pid)).transpose()?;
    }
    Ok(())
}

/// Removes the image by its ID, with all its names, unless a container uses it.
fn remove_unused_image(engine: &Engine, image: &str) -> Result<()> {
    let is_used = engine.list_containers()?.iter().any(|other| other.record.image_id.to_string() == image);
    if is_used {
        return Ok(());
    }
    match engine.remove_image(image, true) {
        Err(error) if error.is_no_such_image() => Ok(()),
        result => Ok(result.map(drop)?),
    }
}
