//! The command line: the table of commands, and parsing that builds only the parser of the command in hand.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Args};

use crate::commands::{self, Command};
use crate::context::{Context, Globals};
use crate::failure::{self, Failure, Result, USAGE_EXIT_CODE};

/// One command: how it is named, explained, parsed and run.
#[derive(Clone, Copy)]
pub struct Entry {
    pub name: &'static str,
    pub about: &'static str,
    pub examples: &'static str,
    augment: fn(clap::Command) -> clap::Command,
    run: fn(&mut ArgMatches, &Context) -> Result<u8>,
}

/// The entry of the command `C`.
pub const fn entry<C: Command>(name: &'static str, about: &'static str, examples: &'static str) -> Entry {
    Entry { name, about, examples, augment: augment::<C>, run: run_parsed::<C> }
}

impl Entry {
    /// The same command under the name it has in a group (`images` is `image ls`).
    const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// A parser that knows its arguments only once it is used: building all of them would take longer than most
    /// commands do.
    fn parser(self) -> clap::Command {
        clap::Command::new(self.name).about(self.about).after_help(self.examples).defer(self.augment)
    }
}

fn augment<C: Command>(command: clap::Command) -> clap::Command {
    // `-h` is the hostname of run and create, as in Docker.
    let help = Arg::new("help").long("help").action(ArgAction::Help).help("Print help");
    // As in Go's flags, a value may begin with a dash.
    let needs_value = |arg: &Arg| {
        let is_optional = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
        !arg.is_positional() && arg.get_action().takes_values() && !is_optional
    };
    let takes_any = |arg: Arg| if needs_value(&arg) { arg.allow_hyphen_values(true) } else { arg };
    C::augment_args(command.disable_help_flag(true).arg(help)).mut_args(takes_any)
}

fn run_parsed<C: Command>(matches: &mut ArgMatches, context: &Context) -> Result<u8> {
    let command = C::from_arg_matches_mut(matches).map_err(failure::usage)?;
    command.run(context)
}

/// A group of commands behind one word, as in `carrack image ls`.
struct Group {
    name: &'static str,
    about: &'static str,
    entries: fn() -> Vec<Entry>,
    augment: fn(clap::Command) -> clap::Command,
}

const GROUPS: [Group; 10] = [
    Group {
        name: "image",
        about: "Manage images",
        entries: image_group,
        augment: |command| with_entries(command, image_group()),
    },
    Group {
        name: "container",
        about: "Manage containers",
        entries: container_group,
        augment: |command| with_entries(command, container_group()),
    },
    Group {
        name: "builder",
        about: "Manage the build cache",
        entries: builder_group,
        augment: |command| with_entries(command, builder_group()),
    },
    Group {
        name: "healthcheck",
        about: "Check the health of containers",
        entries: healthcheck_group,
        augment: |command| with_entries(command, healthcheck_group()),
    },
    Group {
        name: "manifest",
        about: "Manage manifest lists: images of several platforms under one name",
        entries: manifest_group,
        augment: |command| with_entries(command, manifest_group()),
    },
    Group {
        name: "registry",
        about: "Serve images to others",
        entries: registry_group,
        augment: |command| with_entries(command, registry_group()),
    },
    Group {
        name: "secret",
        about: "Manage secrets that containers are shown",
        entries: secret_group,
        augment: |command| with_entries(command, secret_group()),
    },
    Group {
        name: "snapshot",
        about: "Manage snapshots of file systems",
        entries: snapshot_group,
        augment: |command| with_entries(command, snapshot_group()),
    },
    Group {
        name: "system",
        about: "Manage the store as a whole",
        entries: system_group,
        augment: |command| with_entries(command, system_group()),
    },
    Group {
        name: "volume",
        about: "Manage volumes",
        entries: volume_group,
        augment: |command| with_entries(command, volume_group()),
    },
];

/// Here for help, completion and manual pages: it has a command line of its own, with options of other meanings.
const RUNTIME: &str = "runtime";

fn with_entries(command: clap::Command, entries: Vec<Entry>) -> clap::Command {
    // As in Docker and Podman, each of these has a second name within a group.
    let with_alias = |parser: clap::Command| match parser.get_name() {
        "ls" => parser.alias("list"),
        "rm" => parser.alias("remove"),
        "unmount" => parser.alias("umount"),
        _ => parser,
    };
    let parsers = entries.into_iter().map(|entry| with_alias(entry.parser()));
    command.subcommand_required(true).arg_required_else_help(true).subcommands(parsers)
}

fn find(name: &str) -> Entry {
    let found = commands::ALL.iter().find(|entry| entry.name == name);
    *found.unwrap_or_else(|| panic!("the table of commands has no {name}"))
}

fn image_group() -> Vec<Entry> {
    let renamed = [("images", "ls"), ("rmi", "rm")].map(|(name, here)| find(name).named(here));
    let same =
        ["build", "copy", "history", "import", "load", "pull", "push", "save", "tag", "untag"].map(find);
    renamed.into_iter().chain(same).chain(commands::IMAGE_ONLY).collect()
}

fn container_group() -> Vec<Entry> {
    let same = [
        "attach", "commit", "cp", "create", "diff", "exec", "export", "init", "kill", "logs", "pause",
        "port", "rename", "restart", "rm", "run", "start", "stats", "stop", "top", "unpause", "update",
        "wait",
    ]
    .map(find);
    [find("ps").named("ls"), find("ps")]
        .into_iter()
        .chain(same)
        .chain([commands::CONTAINER_EXISTS, commands::CONTAINER_INSPECT, commands::CONTAINER_PRUNE])
        .collect()
}

fn builder_group() -> Vec<Entry> {
    vec![commands::BUILDER_PRUNE, find("build")]
}

fn healthcheck_group() -> Vec<Entry> {
    commands::HEALTHCHECK.to_vec()
}

fn manifest_group() -> Vec<Entry> {
    commands::MANIFEST.to_vec()
}

fn snapshot_group() -> Vec<Entry> {
    commands::SNAPSHOT.to_vec()
}

fn secret_group() -> Vec<Entry> {
    commands::SECRET.to_vec()
}

fn registry_group() -> Vec<Entry> {
    vec![commands::REGISTRY_SERVE]
}

fn system_group() -> Vec<Entry> {
    [find("info")].into_iter().chain(commands::SYSTEM.iter().copied()).chain([find("events")]).collect()
}

fn volume_group() -> Vec<Entry> {
    commands::VOLUME.to_vec()
}

/// The whole command line, for help, completion and manual pages.
pub fn parser() -> clap::Command {
    parser_of(&|_| true)
}

/// A parser that knows the commands and groups which `is_wanted` picks.
fn parser_of(is_wanted: &dyn Fn(&str) -> bool) -> clap::Command {
    // The text comes last: the globals' own doc comment would take its place.
    let mut command = Globals::augment_args(clap::Command::new("carrack"))
        .about("Builds, stores, moves, serves and runs container images: one binary, no daemon")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true);
    for entry in commands::ALL.iter().filter(|entry| is_wanted(entry.name)) {
        command = command.subcommand(entry.parser());
    }
    for group in GROUPS.iter().filter(|group| is_wanted(group.name)) {
        command = command.subcommand(clap::Command::new(group.name).about(group.about).defer(group.augment));
    }
    if is_wanted(RUNTIME) {
        command = command.subcommand(crate::runtime::parser(RUNTIME));
    }
    command
}

/// Parses the command line. Dozens of commands take longer to list than most take to run, so only those are known at
/// first whose names occur in it; where that fails, help and errors come from the parser that knows all.
fn parse(arguments: &[OsString]) -> std::result::Result<ArgMatches, clap::Error> {
    let occurs = |name: &str| arguments.iter().any(|argument| argument == name);
    let mut arguments = arguments.to_vec();
    loop {
        let mut quick = parser_of(&occurs);
        let matches = quick.try_get_matches_from_mut(&arguments);
        // The process ends soon: taking a parser apart takes a tenth of the time of parsing.
        std::mem::forget(quick);
        let matches = matches.or_else(|_| parser().try_get_matches_from(&arguments));
        match matches {
            Err(error) if without_truth_value(&error, &mut arguments) => {}
            matches => return matches,
        }
    }
}

/// Go programs let a flag that is either there or not have a value (`--rm=true`): takes the value that the parser has
/// stumbled over away, with the flag where it is false. Whether there was one.
fn without_truth_value(error: &clap::Error, arguments: &mut Vec<OsString>) -> bool {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (Some(flag), Some(value)) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue)) else {
        return false;
    };
    let flag = flag.split(' ').next().unwrap_or_default();
    let token = OsString::from(format!("{flag}={value}"));
    let at = arguments.iter().position(|argument| *argument == token);
    match (error.kind() == ErrorKind::TooManyValues, at, value) {
        (true, Some(at), "true" | "1") => arguments[at] = flag.into(),
        (true, Some(at), "false" | "0") => drop(arguments.remove(at)),
        _ => return false,
    }
    true
}

/// Parses and runs; returns the exit code of the process.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let matches = match parse(&arguments) {
        Ok(matches) => matches,
        Err(error) => {
            let code = if error.use_stderr() { USAGE_EXIT_CODE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match dispatch(matches) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}

fn dispatch(mut matches: ArgMatches) -> Result<u8> {
    use clap::FromArgMatches;
    if matches.subcommand_name() == Some(RUNTIME) {
        let message = "expected no options before `runtime`: give those of the runtime behind it";
        return Err(Failure::with_exit_code(message, USAGE_EXIT_CODE));
    }
    let globals = Globals::from_arg_matches_mut(&mut matches).map_err(failure::usage)?;
    let context = Context::new(globals)?;
    let (name, mut matches) = matches.remove_subcommand().expect("clap requires a command");
    if let Some(group) = GROUPS.iter().find(|group| group.name == name) {
        let (name, mut matches) = matches.remove_subcommand().expect("clap requires a command of the group");
        let entries = (group.entries)();
        let entry = entries.iter().find(|entry| entry.name == name).expect("clap knows the group");
        return (entry.run)(&mut matches, &context);
    }
    (find(&name).run)(&mut matches, &context)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// clap looks for this itself, but not in a release build, and then one of the two never sees its value.
    #[test]
    fn each_flag_of_a_command_is_defined_once() {
        let mut parser = parser();
        parser.build();
        assert_flags_are_unique(&parser);
    }

    fn assert_flags_are_unique(command: &clap::Command) {
        let mut flags = BTreeSet::new();
        for argument in command.get_opts() {
            let long =
                argument.get_long_and_visible_aliases().into_iter().flatten().map(|name| format!("--{name}"));
            let short =
                argument.get_short_and_visible_aliases().into_iter().flatten().map(|name| format!("-{name}"));
            for flag in long.chain(short) {
                assert!(flags.insert(flag.clone()), "{}: {flag} is defined twice", command.get_name());
            }
        }
        command.get_subcommands().for_each(assert_flags_are_unique);
    }
}
