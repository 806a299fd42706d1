//! Flags of Docker and Podman that mean nothing in carrack: each is known, and says so when it is used.
//!
//! A value that asks for what carrack does anyway (`--isolation default`) is accepted. `docs/run-flags.md` lists them
//! all; a test compares.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::failure::{Failure, Result, USAGE_EXIT_CODE};

/// A flag that is known and cannot apply.
struct Inapplicable {
    name: &'static str,
    /// Values that change nothing here; `None` for a flag without a value.
    accepted: Option<&'static [&'static str]>,
    reason: &'static str,
}

const fn flag(name: &'static str, reason: &'static str) -> Inapplicable {
    Inapplicable { name, accepted: None, reason }
}

const fn value(name: &'static str, accepted: &'static [&'static str], reason: &'static str) -> Inapplicable {
    Inapplicable { name, accepted: Some(accepted), reason }
}

const WINDOWS: &str = "it is for Windows containers";
const PODS: &str = "carrack has no pods";
const NO_IPV6: &str = "the bridge has IPv4 addresses only";

/// By name.
const INAPPLICABLE: &[Inapplicable] = &[
    value("chrootdirs", &[], "the files of name resolution are bound in the container's root only"),
    value("cpu-count", &["0"], WINDOWS),
    value("cpu-percent", &["0"], WINDOWS),
    value(
        "disable-content-trust",
        &["true"],
        "carrack checks digests, and has no Notary; without the flag no signatures are checked either",
    ),
    value("hostuser", &[], "carrack does not change /etc/passwd of an image; use --user UID:GID"),
    value("init-path", &[], "the init of --init is part of carrack"),
    value("io-maxbandwidth", &["0"], WINDOWS),
    value("io-maxiops", &["0"], WINDOWS),
    value("ip6", &[], NO_IPV6),
    value("isolation", &["", "default"], WINDOWS),
    value(
        "kernel-memory",
        &["0"],
        "Linux has no such limit since 5.4: memory of the kernel is part of --memory",
    ),
    value("link", &[], "links are a legacy of Docker; use --add-host NAME:ADDRESS"),
    value("link-local-ip", &[], "the bridge gives one address to each container"),
    value("network-alias", &[], "carrack has no name server for containers; use --add-host NAME:ADDRESS"),
    value("passwd", &["false"], "carrack does not change /etc/passwd of an image"),
    value("passwd-entry", &[], "carrack does not change /etc/passwd of an image; bind a file over it"),
    value("personality", &[], "a program may change it itself by setarch(8)"),
    value("pod", &[], PODS),
    value("pod-id-file", &[], PODS),
    value("requires", &[], "carrack does not start containers for others"),
    value("sdnotify", &["ignore"], "nobody waits for the readiness of a container"),
    value("seccomp-policy", &["default"], "a profile is chosen with --security-opt seccomp=FILE"),
    value("storage-opt", &[], "snapshots have no size of their own"),
    value("subgidname", &[], "give the ranges with --gidmap"),
    value("subuidname", &[], "give the ranges with --uidmap"),
    flag("use-api-socket", "carrack has no daemon whose socket could be shared"),
    value("volume-driver", &["", "local"], "volumes are folders of this host"),
];

/// The flags of the table, hidden from help.
pub struct InapplicableFlags {
    refused: Option<String>,
}

impl InapplicableFlags {
    /// Fails when one of them was used with a value that asks for something.
    pub fn check(&self) -> Result<()> {
        match &self.refused {
            None => Ok(()),
            Some(message) => Err(Failure::with_exit_code(message.clone(), USAGE_EXIT_CODE)),
        }
    }
}

impl Args for InapplicableFlags {
    fn augment_args(command: Command) -> Command {
        let arg = |known: &Inapplicable| {
            let arg = Arg::new(known.name).long(known.name).hide(true);
            match known.accepted {
                None => arg.action(ArgAction::SetTrue),
                // Boolean flags of Go programs may stand alone, and take a value behind `=` only.
                Some(["true"] | ["false"]) => arg
                    .action(ArgAction::Append)
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true"),
                Some(_) => arg.action(ArgAction::Append).allow_hyphen_values(true),
            }
        };
        command.args(INAPPLICABLE.iter().map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for InapplicableFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let refused = INAPPLICABLE.iter().find_map(|known| refusal(known, matches));
        Ok(Self { refused })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn refusal(known: &Inapplicable, matches: &ArgMatches) -> Option<String> {
    let Inapplicable { name, accepted, reason } = known;
    match accepted {
        None => matches.get_flag(name).then(|| format!("--{name} cannot apply: {reason}")),
        Some(accepted) => {
            let values = matches.get_many::<String>(name).into_iter().flatten();
            let refused = values.into_iter().find(|value| !accepted.contains(&value.as_str()))?;
            Some(format!("--{name}={refused} cannot apply: {reason}"))
        }
    }
}
