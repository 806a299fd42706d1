//! Bundles: a folder with `config.json` and a root filesystem.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::mount::clone_path;
use oci_spec::runtime::{Capability, Process, Spec};
use serde_json::Value;

use crate::{Error, Result, hooks};

/// More than any config has; one with all options of a pod is of some 100 kB.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// A bundle that was read and may be run.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The folder, absolute.
    pub folder: PathBuf,
    /// Its config.
    pub spec: Spec,
    /// Its root filesystem, absolute.
    pub rootfs: PathBuf,
}

impl Bundle {
    /// Reads the bundle in `folder`.
    pub fn open(folder: &Path) -> Result<Self> {
        let folder = folder.canonicalize().during("find the bundle", folder)?;
        let refused = |reason: String| Error::Bundle { path: folder.clone(), reason };
        let spec = read_spec(&folder.join("config.json"))?;
        if !spec.version().starts_with("1.") {
            return Err(refused(format!("expected ociVersion 1.x, got {:?}", spec.version())));
        }
        let root = spec.root().as_ref().ok_or_else(|| refused("expected a root, got none".into()))?;
        let rootfs = folder.join(root.path());
        let rootfs = rootfs.canonicalize().during("find the root filesystem", &rootfs)?;
        if rootfs == Path::new("/") {
            return Err(refused("expected a root filesystem of its own, got the host's root".into()));
        }
        spec.hooks().as_ref().map_or(Ok(()), hooks::check)?;
        Ok(Self { folder, spec, rootfs })
    }

    /// The root filesystem with all that is mounted in it, as a detached mount.
    pub fn mount(&self) -> Result<OwnedFd> {
        Ok(clone_path(&self.rootfs, true)?)
    }
}

/// Reads a config, be it a bundle's or one that was kept.
pub(super) fn read_spec(path: &Path) -> Result<Spec> {
    let bytes = read(path)?;
    let parse = || -> serde_json::Result<Spec> {
        let mut spec: Value = serde_json::from_slice(&bytes)?;
        if let Some(process) = spec.get_mut("process") {
            drop_unknown_capabilities(process);
        }
        serde_json::from_value(spec)
    };
    parse().map_err(|error| Error::Bundle {
        path: path.parent().unwrap_or(path).to_owned(),
        reason: format!("its config.json is no runtime spec: {error}"),
    })
}

/// Reads a process of the specification.
pub(super) fn read_process(path: &Path) -> Result<Process> {
    let bytes = read(path)?;
    let parse = || -> serde_json::Result<Process> {
        let mut process: Value = serde_json::from_slice(&bytes)?;
        drop_unknown_capabilities(&mut process);
        serde_json::from_value(process)
    };
    let refused =
        |error| Error::spec(format!("{} is no process of the specification: {error}", path.display()));
    parse().map_err(refused)
}

/// Those that this program does not know are newer than it: config.md has them logged, and left out.
fn drop_unknown_capabilities(process: &mut Value) {
    let sets = process.get_mut("capabilities").and_then(Value::as_object_mut);
    for set in sets.into_iter().flat_map(|sets| sets.values_mut()).filter_map(Value::as_array_mut) {
        set.retain(|name| {
            let is_known = !name.is_string() || serde_json::from_value::<Capability>(name.clone()).is_ok();
            if !is_known {
                tracing::warn!("the capability {name} is not known and left out");
            }
            is_known
        });
    }
}

/// Reads a file whose size is bounded.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).during("open", path)?;
    file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut bytes).during("read", path)?;
    if bytes.len() as u64 > MAX_CONFIG_BYTES {
        return Err(Error::Bundle {
            path: path.to_owned(),
            reason: format!("expected a file of at most {MAX_CONFIG_BYTES} bytes"),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_bundle_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("rootfs")).unwrap();
        let refusal = |config: &str| {
            std::fs::write(folder.path().join("config.json"), config).unwrap();
            Bundle::open(folder.path()).unwrap_err().to_string()
        };
        for (config, expected) in [
            ("{", "no runtime spec"),
            (r#"{"ociVersion": "2.0.0", "root": {"path": "rootfs"}}"#, "expected ociVersion 1.x"),
            (r#"{"ociVersion": "1.0.2"}"#, "expected a root"),
            (r#"{"ociVersion": "1.0.2", "root": {"path": "/"}}"#, "host's root"),
            (r#"{"ociVersion": "1.0.2", "root": {"path": "no"}}"#, "root filesystem"),
        ] {
            let error = refusal(config);
            assert!(error.contains(expected), "{config}: {error}");
        }
    }
}
