//! Hooks of a container, which the CDI files of its devices ask for: programs of a vendor that finish what mounts and
//! device nodes cannot do, such as the cache of shared libraries in the container's root.
//!
//! Invariant: before a hook runs, the run folder of the container is a bundle as the runtime specification has it, whose
//! `config.json` is what the container is made of and whose `root.path` is where hooks find its root. `poststop` hooks
//! are announced as an effect, so that they run also when the monitor was killed.

use std::path::Path;

use carrack_container::Effect;
use carrack_runtime::hooks::{Kind, LaunchHooks, PlannedHooks, check};
use carrack_runtime::oci;
use carrack_sys::atomic::{self, Durability};
use oci_spec::runtime::Spec;

use crate::Result;
use crate::sandbox::Announce;
use crate::spec::SPEC_FILE;

/// Where hooks find the root, in the container's run folder. Only the container's own mount namespace has it there.
const ROOT: &str = "rootfs";

/// Makes the bundle that hooks find, if the spec has any.
pub(crate) fn prepare(
    id: &str,
    bundle: &Path,
    spec: &mut Spec,
    announce: Announce<'_>,
) -> Result<Option<LaunchHooks>> {
    let Some(hooks) = spec.hooks().clone() else { return Ok(None) };
    check(&hooks)?;
    let place = bundle.join(ROOT);
    atomic::create_private_dir(&place)?;
    if let Some(root) = spec.root_mut() {
        root.set_path(place.clone());
    }
    let json = serde_json::to_vec(spec).expect("a spec has string keys only");
    atomic::write(&bundle.join(SPEC_FILE), &json, 0o600, Durability::Volatile)?;
    announce(&Effect::Hooks { id: id.to_owned(), bundle: bundle.to_owned() })?;
    Ok(Some(LaunchHooks { place, hooks, state: state(id, bundle, spec, oci::Status::Creating) }))
}

/// Runs the hooks that follow the end of a container; those that fail are logged.
pub(crate) fn clean_up(id: &str, bundle: &Path) -> Result<()> {
    let json = atomic::read(&bundle.join(SPEC_FILE))?.unwrap_or_default();
    // A reboot takes the file, and with it all that hooks have made.
    let Ok(spec) = serde_json::from_slice::<Spec>(&json) else { return Ok(()) };
    if let Some(hooks) = spec.hooks() {
        PlannedHooks::new(Kind::Poststop, hooks, &state(id, bundle, &spec, oci::Status::Stopped)).run_all();
    }
    Ok(())
}

fn state(id: &str, bundle: &Path, spec: &Spec, status: oci::Status) -> oci::State {
    oci::State {
        oci_version: oci::SPEC_VERSION.to_owned(),
        id: id.to_owned(),
        status,
        pid: None,
        bundle: bundle.to_owned(),
        annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
    }
}
