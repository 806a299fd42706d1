//! Instructions that have a command line: `RUN`, `CMD`, `ENTRYPOINT`, `HEALTHCHECK`, `SHELL`.

use crate::duration::nanoseconds;
use crate::fragment::Parsed;
use crate::parse::{Statement, json_array};
use crate::{CommandLine, Healthcheck, MountFlag, Run, RunNetwork};

pub(crate) fn run(mut statement: Statement<'_>, remarks: &mut Vec<String>) -> Parsed<Run> {
    let mut mounts = Vec::new();
    for (value, at) in statement.flags.all("mount")? {
        mounts.push(MountFlag::parse(&value).map_err(|message| at.problem(message))?);
    }
    let network = match statement.flags.one("network")? {
        None => RunNetwork::Default,
        Some((value, at)) => match value.as_str() {
            "default" => RunNetwork::Default,
            "none" => RunNetwork::None,
            "host" => RunNetwork::Host,
            _ => return Err(at.problem(format!("unknown network {value:?}: expected default, none or host"))),
        },
    };
    if let Some((value, at)) = statement.flags.one("security")?
        && value != "sandbox"
    {
        return Err(at.problem(format!("--security={value} is not supported: expected sandbox")));
    }
    statement.needs_arguments()?;
    let heredocs = std::mem::take(&mut statement.heredocs);
    Ok(Run { command: command_line(&statement, remarks)?, heredocs, mounts, network })
}

/// `CMD` and `ENTRYPOINT`; without arguments they set an empty command.
pub(crate) fn command(mut statement: Statement<'_>, remarks: &mut Vec<String>) -> Parsed<CommandLine> {
    if statement.arguments.is_empty() {
        statement.flags.finish(&statement.name)?;
        return Ok(CommandLine::Exec(Vec::new()));
    }
    statement.needs_arguments()?;
    command_line(&statement, remarks)
}

fn command_line(statement: &Statement<'_>, remarks: &mut Vec<String>) -> Parsed<CommandLine> {
    if let Some(words) = json_array(statement.arguments)? {
        return Ok(CommandLine::Exec(words));
    }
    let text = statement.arguments.text;
    if text.starts_with('[') && text.ends_with(']') && text.contains(['"', '\'']) {
        remarks.push(format!(
            "{} looks like an exec form, but is not valid JSON: the shell gets it",
            statement.name
        ));
    }
    Ok(CommandLine::Shell(text.to_owned()))
}

pub(crate) fn shell(mut statement: Statement<'_>) -> Parsed<Vec<String>> {
    statement.needs_arguments()?;
    match json_array(statement.arguments)? {
        Some(words) if !words.is_empty() => Ok(words),
        _ => Err(statement.arguments.problem("SHELL needs the JSON form: SHELL [\"/bin/bash\", \"-c\"]")),
    }
}

pub(crate) fn healthcheck(mut statement: Statement<'_>, remarks: &mut Vec<String>) -> Parsed<Healthcheck> {
    let mut duration = |name| match statement.flags.one(name)? {
        None => Ok(0),
        Some((value, at)) => match nanoseconds(&value) {
            // Docker takes 0 as the default and refuses less than a millisecond.
            Some(0) => Ok(0),
            Some(time) if time >= 1_000_000 => Ok(time),
            Some(_) => Err(at.problem(format!("--{name}={value} is too short: expected at least 1ms"))),
            None => Err(at.problem(format!("invalid duration {value:?}: expected one like 30s or 1m30s"))),
        },
    };
    let (interval, timeout) = (duration("interval")?, duration("timeout")?);
    let (start_period, start_interval) = (duration("start-period")?, duration("start-interval")?);
    let retries = match statement.flags.one("retries")? {
        None => 0,
        Some((value, at)) => match value.parse::<u32>() {
            Ok(retries) if retries <= i32::MAX.unsigned_abs() => u64::from(retries),
            _ => return Err(at.problem(format!("invalid number {value:?} of --retries"))),
        },
    };
    statement.needs_arguments()?;
    let (kind, rest) = statement.arguments.split_word();
    match kind.text.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() => Ok(Healthcheck::None),
        "NONE" => Err(rest.problem("HEALTHCHECK NONE takes no arguments")),
        "CMD" if rest.is_empty() => Err(kind.problem("HEALTHCHECK CMD needs a command")),
        "CMD" => {
            statement.arguments = rest;
            let command = command_line(&statement, remarks)?;
            if matches!(&command, CommandLine::Exec(words) if words.is_empty()) {
                return Err(rest.problem("HEALTHCHECK CMD needs a command"));
            }
            Ok(Healthcheck::Command { command, interval, timeout, start_period, start_interval, retries })
        }
        _ => Err(kind.problem(format!("unknown kind {:?}: expected CMD or NONE", kind.text))),
    }
}
