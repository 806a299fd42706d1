//! `--security-opt mask, unmask, systempaths, proc-opts`: what of the kernel's filesystems a container sees.

use carrack_container::SecuritySettings;
use oci_spec::runtime::{Linux, Mount};

use crate::{Error, Result};

/// Changes of the default masked and read-only paths.
#[derive(Debug, Default)]
pub struct SystemPaths {
    masked: Vec<String>,
    unmasked: Vec<String>,
    unmasks_all: bool,
    proc_options: Vec<String>,
}

impl SystemPaths {
    pub fn of(settings: &SecuritySettings) -> Result<Self> {
        let mut paths = Self::default();
        for option in &settings.options {
            let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
            match (key, value) {
                ("mask", _) => paths.masked.extend(list(option, value)?),
                ("unmask", "ALL" | "all") | ("systempaths", "unconfined") => paths.unmasks_all = true,
                ("unmask", _) => paths.unmasked.extend(list(option, value)?),
                ("proc-opts", "") => return Err(wrong(option, "proc-opts=hidepid=2")),
                ("proc-opts", _) => paths.proc_options.extend(value.split(',').map(str::to_owned)),
                ("systempaths", _) => return Err(wrong(option, "systempaths=unconfined")),
                _ => {}
            }
        }
        Ok(paths)
    }

    pub fn configure(&self, linux: &mut Linux) {
        let keep = |paths: &Option<Vec<String>>| -> Vec<String> {
            paths.iter().flatten().filter(|path| !self.unmasks(path)).cloned().collect()
        };
        let mut masked = keep(linux.masked_paths());
        let read_only = keep(linux.readonly_paths());
        masked.extend(self.masked.iter().cloned());
        linux.set_masked_paths(Some(masked)).set_readonly_paths(Some(read_only));
    }

    /// A path, or all that a pattern with a star at its end means.
    fn unmasks(&self, path: &str) -> bool {
        self.unmasks_all
            || self.unmasked.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => path.starts_with(start),
                None => path == pattern,
            })
    }

    pub fn adapt_mounts(&self, mounts: &mut [Mount]) {
        for mount in mounts.iter_mut().filter(|mount| mount.typ().as_deref() == Some("proc")) {
            let mut options = mount.options().clone().unwrap_or_default();
            options.extend(self.proc_options.iter().cloned());
            mount.set_options(Some(options));
        }
    }
}

/// Paths with colons between them.
fn list(option: &str, value: &str) -> Result<Vec<String>> {
    let is_path = |path: &str| path.starts_with('/') && !path.split('/').any(|part| part == "..");
    match value.split(':').all(is_path) {
        true => Ok(value.split(':').map(str::to_owned).collect()),
        false => Err(wrong(option, "absolute paths with colons between them")),
    }
}

fn wrong(option: &str, expected: &str) -> Error {
    Error::refused(format!("unknown security option {option:?}"), format!("expected {expected}"))
}
