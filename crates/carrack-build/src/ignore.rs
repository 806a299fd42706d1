//! `.dockerignore` files and `--exclude` (Docker's manual, "Build context", ".dockerignore files"): a list of patterns
//! of which the last that matches decides; a pattern that matches a folder holds for all that is in it.

use std::ffi::OsStr;

use crate::pattern::{Pattern, Positions, Scratch};
use crate::{Error, Result};

/// A list of patterns, with exceptions that begin with `!`.
#[derive(Clone, Debug, Default)]
pub struct IgnoreList {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Pattern,
    exception: bool,
}

/// How far each pattern has come along the path of a folder.
#[derive(Clone, Debug)]
pub(crate) struct Walked {
    positions: Vec<Positions>,
    matched: Vec<bool>,
}

impl IgnoreList {
    /// Reads the text of a `.dockerignore` file.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim);
        Self::new(lines.filter(|line| !line.is_empty()))
    }

    /// Takes patterns one by one.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut rules = Vec::new();
        for text in patterns {
            let (exception, rest) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest.trim()));
            if rest.is_empty() {
                return Err(Error::Pattern { pattern: text.to_owned(), reason: "nothing follows the !" });
            }
            let clean = clean(rest);
            if !clean.is_empty() {
                rules.push(Rule { pattern: Pattern::deep(&clean)?, exception });
            }
        }
        Ok(Self { rules })
    }

    /// Whether nothing is ever excluded.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a path relative to the context, with `/` between its names, is excluded.
    pub fn excludes(&self, path: &str) -> bool {
        let mut walked = self.begin();
        let mut excluded = false;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            (excluded, walked) = self.enter(&walked, OsStr::new(name));
        }
        excluded
    }

    /// Whether something in an excluded folder may be included again.
    pub(crate) fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.exception)
    }

    pub(crate) fn begin(&self) -> Walked {
        let positions = self.rules.iter().map(|rule| rule.pattern.begin()).collect();
        Walked { positions, matched: vec![false; self.rules.len()] }
    }

    /// Whether `name` in the folder is excluded.
    pub(crate) fn excludes_in(&self, folder: &Walked, name: &OsStr, scratch: &mut Scratch) -> bool {
        let name = name.to_string_lossy();
        let mut excluded = false;
        for (index, rule) in self.rules.iter().enumerate() {
            if rule.exception != excluded {
                continue; // it could only say what is so already
            }
            let positions = &folder.positions[index];
            let matched = folder.matched[index] || rule.pattern.matches_from(positions, &name, scratch);
            if matched {
                excluded = !rule.exception;
            }
        }
        excluded
    }

    /// The same for a folder, with what is needed to go into it.
    pub(crate) fn enter(&self, folder: &Walked, name: &OsStr) -> (bool, Walked) {
        let name = name.to_string_lossy();
        let mut below = folder.clone();
        let mut excluded = false;
        for (index, rule) in self.rules.iter().enumerate() {
            let positions = &mut below.positions[index];
            rule.pattern.advance(positions, &name);
            below.matched[index] |= rule.pattern.is_match(positions);
            rule.pattern.advance(positions, "/");
            if below.matched[index] {
                excluded = !rule.exception;
            }
        }
        (excluded, below)
    }
}

/// The shortest form of a path, relative to the context.
fn clean(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names.join("/")
}
