//! Landlock rules that a container's processes begin with: what of its files they may reach.
//!
//! Invariant: a process whose rules cannot be put in force as they are is not started. The paths are resolved in the
//! container's root, as whoever set it up, and lead through no link: an image cannot make a rule mean another folder.

use std::path::{Component, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::landlock::{Access, NEEDED_VERSION, Ruleset, version};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use crate::{Error, Result};

/// Files that may be reached; all others may not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Landlock {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    path: PathBuf,
    is_writable: bool,
}

impl Landlock {
    /// Adds rules in the form `ro:/usr,rw:/tmp`; `Err` says what was expected.
    ///
    /// `ro` allows to read, list and execute, `rw` everything.
    pub fn extend(&mut self, text: &str) -> std::result::Result<(), String> {
        for rule in text.split(',') {
            self.rules.push(Rule::parse(rule)?);
        }
        Ok(())
    }

    /// Each rule in the form that it is read in.
    pub fn rules(&self) -> Vec<String> {
        let mode = |rule: &Rule| if rule.is_writable { "rw" } else { "ro" };
        self.rules.iter().map(|rule| format!("{}:{}", mode(rule), rule.path.display())).collect()
    }

    /// Parent: refuses rules that this kernel does not know.
    pub(crate) fn checked(self) -> Result<Self> {
        require(version().map_err(|error| error.to_string())).map(|()| self)
    }

    /// Child, in the container's root and with the privileges of who set it up.
    pub(crate) fn restrict(&self) -> Result<()> {
        let rules = Ruleset::new().during("make", "Landlock rules")?;
        for rule in &self.rules {
            let place = rule.open()?;
            let access = if rule.is_writable { Access::ALL } else { Access::READ };
            let kind = FileType::from_raw_mode(fstat(&place).during("examine", &rule.path)?.st_mode);
            let access = if kind.is_dir() { access } else { access.of_file() };
            rules.allow(std::os::fd::AsFd::as_fd(&place), access).during("allow access to", &rule.path)?;
        }
        Ok(rules.restrict().during("put in force", "the Landlock rules")?)
    }
}

impl Rule {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let (mode, path) = text.split_once(':').unwrap_or((text, ""));
        let is_writable = match mode {
            "ro" => false,
            "rw" => true,
            _ => return Err(format!("expected ro:/PATH or rw:/PATH with commas between them, got {text:?}")),
        };
        let path = PathBuf::from(path);
        let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        if !path.is_absolute() || !path.components().all(is_plain) || text.contains('\0') {
            return Err(format!("expected an absolute path without .., got {text:?}"));
        }
        Ok(Self { path, is_writable })
    }

    fn open(&self) -> Result<std::os::fd::OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let shown = self.path.display();
        match openat2(CWD, &self.path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            Err(Errno::LOOP) => Err(Error::spec(format!(
                "the Landlock rule for {shown} leads through a link of the container: name where it leads to"
            ))),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(Error::spec(format!(
                "the Landlock rule for {shown} has nothing to hold for: there is no such file in the container"
            ))),
            opened => Ok(opened.during("open", &self.path)?),
        }
    }
}

fn require(version: std::result::Result<u32, String>) -> Result<()> {
    let got = match version {
        Ok(version) if version >= NEEDED_VERSION => return Ok(()),
        Ok(version) => format!("this kernel has version {version}"),
        Err(error) => format!("this kernel has none, or it is switched off ({error})"),
    };
    Err(Error::spec(format!(
        "Landlock rules need version {NEEDED_VERSION} of its interface (Linux 6.2), {got}: leave the rules out"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_or_refused() {
        let read = |text: &str| {
            let mut landlock = Landlock::default();
            landlock.extend(text).map(|()| landlock.rules)
        };
        let rule = |path: &str, is_writable| Rule { path: path.into(), is_writable };
        assert_eq!(read("ro:/,rw:/tmp").unwrap(), [rule("/", false), rule("/tmp", true)]);
        assert_eq!(read("ro:/a:b").unwrap(), [rule("/a:b", false)]);
        for wrong in ["", "ro", "ro:", "ro:a", "rw:/a/../b", "wo:/a", "ro:/a,", "ro:/a,b", "/a", "rw:/a\0"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_kernel_without_the_rights_is_refused() {
        assert!(require(Ok(NEEDED_VERSION)).is_ok() && require(Ok(7)).is_ok());
        for version in [Ok(2), Err("Operation not supported".to_owned())] {
            let error = require(version).unwrap_err().to_string();
            assert!(error.contains("version 3") && error.contains("leave the rules out"), "{error}");
        }
    }
}
