//! Flags for the surroundings of the program: variables, files that it makes, names, notes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};

use crate::commands::pair;
use crate::context;
use crate::failure::{Failure, Result, invalid};

#[derive(Args)]
pub struct ProcessFlags {
    /// Set a variable (NAME=value), or pass on the caller's (NAME; NAME* for all that begin so)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Pass on every variable of the caller
    #[arg(long)]
    env_host: bool,
    /// Pass on the caller's variables of proxies
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, value_name = "BOOL")]
    http_proxy: bool,
    /// Set a variable, with ${NAME} for values of the image's variables
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_merge)]
    pub env_merge: Vec<String>,
    /// Go without a variable of the image or of every container
    #[arg(long, value_name = "NAME")]
    pub unsetenv: Vec<String>,
    /// Go without all variables of the image and of every container
    #[arg(long)]
    pub unsetenv_all: bool,
    /// Mode bits that new files lack, as in 0027
    #[arg(long, value_name = "MODE", value_parser = parse_umask)]
    pub umask: Option<u32>,
    /// Time zone, as in Europe/Berlin; local is the host's
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,
    /// NIS domain name of the container
    #[arg(long, value_name = "NAME")]
    pub domainname: Option<String>,
    /// Note for OCI runtimes and their hooks
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_annotation)]
    annotation: Vec<(String, String)>,
    /// Label of the container
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Add the user to a further group; keep-groups adds those of the caller
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
}

impl ProcessFlags {
    /// The variables: of the caller where wanted, then from files, then from flags.
    pub fn environment(&self) -> Result<Vec<String>> {
        let mut variables = Vec::new();
        if self.env_host {
            variables.extend(context::variables());
        } else if self.http_proxy {
            const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy"];
            let is_proxy = |entry: &String| {
                let name = entry.split('=').next().unwrap_or_default();
                PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
            };
            variables.extend(context::variables().into_iter().filter(is_proxy));
        }
        variables.extend(super::environment(&self.env_file, &self.env)?);
        Ok(variables)
    }

    /// The labels of files, then those of flags.
    pub fn labels(&self) -> Result<BTreeMap<String, String>> {
        let mut labels = BTreeMap::new();
        for file in &self.label_file {
            labels.extend(lines(file)?.iter().map(|line| pair(line)));
        }
        labels.extend(self.label.iter().map(|label| pair(label)));
        Ok(labels)
    }

    /// The notes.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.annotation.iter().cloned().collect()
    }

    /// The further groups; those of the caller as numbers.
    pub fn groups(&self) -> Result<Vec<String>> {
        const KEEP: &str = "keep-groups";
        if !self.group_add.iter().any(|group| group == KEEP) {
            return Ok(self.group_add.clone());
        }
        if self.group_add.len() > 1 {
            return Err(invalid("--group-add", &self.group_add.join(","), "keep-groups alone"));
        }
        let groups = rustix::process::getgroups()
            .map_err(|error| Failure::message(format!("cannot read the own groups: {error}")))?;
        Ok(groups.iter().map(|group| group.as_raw().to_string()).collect())
    }
}

fn parse_umask(text: &str) -> Result<u32, String> {
    let plain = (1..=4).contains(&text.len()) && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let umask = u32::from_str_radix(text, 8).ok().filter(|umask| plain && *umask <= 0o777);
    umask.ok_or_else(|| "expected an octal number from 0000 to 0777".to_owned())
}

fn parse_merge(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

fn parse_annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// Docker's format of files with variables or labels: a line each, `#` begins a comment line, no quoting.
pub fn lines(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::message(format!("cannot read {}: {error}", file.display())))?;
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_umask_is_octal() {
        assert_eq!((parse_umask("0027"), parse_umask("77")), (Ok(0o27), Ok(0o77)));
        for text in ["", "8", "1000", "-1", "+7", "00022", "0o22"] {
            assert!(parse_umask(text).is_err(), "{text:?} was accepted");
        }
    }
}
