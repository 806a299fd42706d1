//! Build arguments (Dockerfile reference, "ARG"): which are set where.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use carrack_dockerfile::{ArgDeclaration, Expander, InstructionKind};

use crate::configure::Configured;
use crate::{BuildPlan, Error, Result};

/// Arguments that need no declaration, are not in the history and do not count for the cache.
pub(crate) const PREDEFINED: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// The arguments before the first `FROM`, and those of the platforms.
pub(crate) struct Globals<'a> {
    values: BTreeMap<String, String>,
    build_args: &'a BTreeMap<String, String>,
    /// Which of `--build-arg` have been declared somewhere.
    declared: RefCell<BTreeSet<String>>,
    escape: char,
}

impl<'a> Globals<'a> {
    pub(crate) fn new(plan: &'a BuildPlan) -> Result<Self> {
        let mut values = BTreeMap::new();
        for (prefix, platform) in [("TARGET", &plan.platform), ("BUILD", &plan.build_platform)] {
            values.insert(format!("{prefix}PLATFORM"), platform.to_string());
            values.insert(format!("{prefix}OS"), platform.os.clone());
            values.insert(format!("{prefix}ARCH"), platform.architecture.clone());
            values.insert(format!("{prefix}VARIANT"), platform.variant.clone().unwrap_or_default());
        }
        values.insert("TARGETSTAGE".to_owned(), plan.target.clone().unwrap_or_else(|| "default".to_owned()));
        let overridden: Vec<String> =
            values.keys().filter(|name| plan.build_args.contains_key(*name)).cloned().collect();
        for name in &overridden {
            values.insert(name.clone(), plan.build_args[name].clone());
        }
        let escape = plan.dockerfile.escape;
        let declared = RefCell::new(overridden.into_iter().collect());
        let mut globals = Self { values, build_args: &plan.build_args, declared, escape };
        for instruction in &plan.dockerfile.global_args {
            let InstructionKind::Arg(declarations) = &instruction.kind else { continue };
            for ArgDeclaration { name, default } in declarations {
                let value = match (globals.build_arg(name), default) {
                    (Some(value), _) => Some(value),
                    (None, Some(default)) => Some(globals.expand(default)?),
                    (None, None) => None,
                };
                globals.values.extend(value.map(|value| (name.clone(), value)));
            }
        }
        Ok(globals)
    }

    /// Expands a text of a `FROM`.
    pub(crate) fn expand(&self, text: &str) -> Result<String> {
        let lookup = |name: &str| self.values.get(name).cloned();
        Expander::new(self.escape, &lookup).word(text).map_err(|error| Error::invalid(error.to_string()))
    }

    fn build_arg(&self, name: &str) -> Option<String> {
        let value = self.build_args.get(name)?;
        self.declared.borrow_mut().insert(name.to_owned());
        Some(value.clone())
    }

    /// The value that an `ARG` within a stage gives: `--build-arg`, else its default, else the global value.
    pub(crate) fn declare(&self, stage: &Configured, declaration: &ArgDeclaration) -> Result<Option<String>> {
        if let Some(value) = self.build_arg(&declaration.name) {
            return Ok(Some(value));
        }
        match &declaration.default {
            Some(default) => stage.expand(default, self.escape).map(Some),
            None => Ok(self.values.get(&declaration.name).cloned()),
        }
    }

    /// The predefined arguments that were given, for the environment of `RUN`.
    pub(crate) fn predefined(&self) -> impl Iterator<Item = (&str, &str)> {
        PREDEFINED.iter().filter_map(|name| Some((*name, self.build_args.get(*name)?.as_str())))
    }

    /// Those of `--build-arg` that nothing has declared.
    pub(crate) fn unused(&self) -> Vec<String> {
        let declared = self.declared.borrow();
        let known = |name: &&String| {
            PREDEFINED.contains(&name.as_str())
                || name.starts_with("BUILDKIT_")
                || *name == "SOURCE_DATE_EPOCH"
        };
        self.build_args.keys().filter(|name| !declared.contains(*name) && !known(name)).cloned().collect()
    }
}
