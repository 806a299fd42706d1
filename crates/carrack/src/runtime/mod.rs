//! `carrack runtime`, also as a program of its own name `carrack-runtime`: the command line that podman, buildah and
//! containerd expect of an OCI runtime. Options, output and exit codes are runc's.
//!
//! What clones a container must be a process of one thread whose program no container can overwrite, so `create`,
//! `run` and `exec` execute this binary anew from a read-only mount before they do anything else.
#![allow(
    clippy::disallowed_methods,
    reason = "the binary reads the environment once, here, for this command line"
)]

mod create;
mod events;
mod exec;
mod list;
mod log;
mod manage;
mod ps;
mod relay;
mod update;

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use carrack_engine::runtime::oci::{Runtime, SPEC_VERSION};
use carrack_engine::runtime::{self, Inherited};
use clap::{Args, FromArgMatches, Subcommand};

use crate::failure::{Failure, Result};
use log::Log;

/// The name under which this binary is an OCI runtime and nothing else.
const PROGRAM: &str = "carrack-runtime";

/// Options before the command.
#[derive(Args)]
pub struct Globals {
    /// Folder of the containers' state
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// File that messages are appended to, beside standard error
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Form of the messages in that file: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: log::Format,
    /// Have systemd make the cgroups
    #[arg(long)]
    systemd_cgroup: bool,
    /// Also log what is of use to developers only
    #[arg(long)]
    debug: bool,
    /// Run without root's rights: true, false or auto; it is always found out
    #[arg(long, value_name = "BOOL", default_value = "auto", value_parser = ["true", "false", "auto"], hide = true)]
    rootless: String,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a container of a bundle; its program waits for `start`
    Create(create::Create),
    /// Remove what is left of a container
    Delete(manage::Delete),
    /// Show what a container uses, and when it lacks memory
    Events(events::Events),
    /// Run a further program in a container
    Exec(exec::Exec),
    /// Print what this runtime knows, as JSON
    Features(manage::Features),
    /// Send a signal to a container
    Kill(manage::Kill),
    /// List containers
    List(list::List),
    /// Let all processes of a container stand still
    Pause(manage::Pause),
    /// List the processes of a container
    Ps(ps::Ps),
    /// Let the processes of a paused container go on
    Resume(manage::Resume),
    /// Create a container, start it, wait for its end and delete it
    Run(create::Run),
    /// Write a config.json to begin with
    Spec(manage::Spec),
    /// Execute the program of a created container
    Start(manage::Start),
    /// Print the state of a container as JSON
    State(manage::State),
    /// Set other limits
    Update(update::Update),
}

/// What a command works with.
pub struct Context {
    /// The containers.
    pub runtime: Runtime,
    pub systemd_cgroup: bool,
}

/// The parser under the name `carrack runtime` or `carrack-runtime`.
pub fn parser(name: &'static str) -> clap::Command {
    let command = clap::Command::new(name)
        .about(
            "Run containers by the OCI runtime specification, as podman, buildah and containerd ask for it",
        )
        .version(env!("CARGO_PKG_VERSION"))
        .long_version(concat!(env!("CARGO_PKG_VERSION"), "\nspec: 1.2.0"))
        .disable_version_flag(true)
        .subcommand_required(true)
        .arg_required_else_help(true);
    let version = clap::Arg::new("version").long("version").short('v');
    let version = version.action(clap::ArgAction::Version).help("Print the version");
    Verb::augment_subcommands(Globals::augment_args(command.arg(version)))
}

/// The arguments of the runtime, when this process was called as one.
pub fn arguments(all: &[OsString]) -> Option<Vec<OsString>> {
    let (program, rest) = all.split_first()?;
    if Path::new(program).file_name().is_some_and(|name| name == PROGRAM) {
        return Some(rest.to_vec());
    }
    rest.first().is_some_and(|word| word == "runtime").then(|| rest[1..].to_vec())
}

/// Parses and runs; returns the exit code of the process.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let whole = std::iter::once(OsString::from(PROGRAM)).chain(arguments.iter().cloned());
    let parsed = parser(PROGRAM)
        .try_get_matches_from(whole)
        .and_then(|matches| Ok((Globals::from_arg_matches(&matches)?, Verb::from_arg_matches(&matches)?)));
    let (globals, verb) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let code = u8::from(error.use_stderr());
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let log = Log::new(globals.log.clone(), globals.log_format);
    match carry_out(globals, verb, arguments, &log) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            log.error(&failure.text());
            failure.report()
        }
    }
}

fn carry_out(globals: Globals, verb: Verb, arguments: &[OsString], log: &Log) -> Result<u8> {
    if let Some(inherited) = verb.inherited() {
        seal(arguments, inherited)?;
    }
    log.start(globals.debug)?;
    let context = Context {
        runtime: Runtime::new(absolute(&globals.root.unwrap_or_else(default_root))?),
        systemd_cgroup: globals.systemd_cgroup,
    };
    match verb {
        Verb::Create(command) => command.run(&context),
        Verb::Delete(command) => command.run(&context),
        Verb::Events(command) => command.run(&context),
        Verb::Exec(command) => command.run(&context),
        Verb::Features(command) => command.run(),
        Verb::Kill(command) => command.run(&context),
        Verb::List(command) => command.run(&context),
        Verb::Pause(command) => command.run(&context),
        Verb::Ps(command) => command.run(&context),
        Verb::Resume(command) => command.run(&context),
        Verb::Run(command) => command.run(&context),
        Verb::Spec(command) => command.run(),
        Verb::Start(command) => command.run(&context),
        Verb::State(command) => command.run(&context),
        Verb::Update(command) => command.run(&context),
    }
}

impl Verb {
    /// Of those that clone: what the new process takes over.
    fn inherited(&self) -> Option<Inherited> {
        match self {
            Self::Create(command) => Some(command.made.inherited()),
            Self::Run(command) => Some(command.made.inherited()),
            Self::Exec(command) => Some(command.inherited()),
            _ => None,
        }
    }
}

impl Context {
    /// Refuses what no systemd can do, before anything is made.
    pub fn check_systemd(&self) -> Result<()> {
        if !self.systemd_cgroup || Path::new("/run/systemd/system").is_dir() {
            return Ok(());
        }
        Err(Failure::message(
            "cannot use --systemd-cgroup: systemd does not run on this host; tell the caller to use cgroupfs \
             (podman: --cgroup-manager=cgroupfs)",
        ))
    }
}

/// Goes on in a process whose program lies on a read-only mount. Descriptors that the container is to have must be open
/// before the first one is opened here, or it would get one of ours.
fn seal(arguments: &[OsString], inherited: Inherited) -> Result<()> {
    let is_sealed = runtime::executable::is_read_only()?;
    runtime::check_descriptors(&inherited.descriptors, is_sealed)?;
    if is_sealed {
        return Ok(());
    }
    let program = runtime::executable::read_only()?;
    let mut command = std::process::Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    let error = command.arg0(PROGRAM).args(arguments).exec();
    Err(Failure::message(format!("cannot execute the own program: {error}")))
}

/// How many descriptors a socket-activated caller was given (sd_listen_fds(3)).
pub fn listen_fds() -> u32 {
    std::env::var("LISTEN_FDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn default_root() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/run/carrack/runtime".into();
    }
    let uid = rustix::process::geteuid().as_raw();
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    folder.unwrap_or_else(|| format!("/tmp/carrack-{uid}").into()).join("carrack/runtime")
}

/// The path as seen from any folder: creating a container changes the working folder.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| Failure::message(format!("cannot use the path {}: {error}", path.display())))
}

const _: () = assert!(matches!(SPEC_VERSION.as_bytes(), b"1.2.0"), "the long version names it");
