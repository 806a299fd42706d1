//! Cgroups that systemd makes: a scope in a slice for each container, by calls of systemd's manager.
//!
//! ```text
//! machine.slice:carrack:ID      slice, prefix and name, as cgroupsPath has them
//! /machine.slice/carrack-ID.scope                      the cgroup in each hierarchy
//! /a.slice/a-b.slice/carrack-ID.scope                  in a-b.slice: a dash is a step down
//! ```
//!
//! systemd owns the tree down to the scope, and gives away what is below (`Delegate`). Limits are told to systemd and
//! then written to the cgroup's files like everywhere else, since it rounds some and has not all of them.
//!
//! Invariant: a scope lives as long as a process is in it; until the container's own is, a placeholder is.

mod bus;
mod message;
mod placeholder;
mod properties;

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use super::Layout;
use crate::{Error, Result};
use bus::{Bus, Refusal, SOCKET};
use message::Argument;
pub(super) use placeholder::Placeholder;

/// A scope in a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The unit's name, with `.scope`.
    pub unit: String,
    /// The slice's name, with `.slice`.
    pub slice: String,
}

const SLICE: &str = ".slice";

impl Scope {
    /// The scope `PREFIX-NAME.scope` in a slice; refuses names that systemd does not take.
    pub fn new(slice: &str, prefix: &str, name: &str) -> Result<Self> {
        let stem = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}-{name}") };
        let scope = Self { unit: format!("{stem}.scope"), slice: slice.to_owned() };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        if name.is_empty() || scope.unit.len() > 255 || !scope.unit.bytes().all(is_plain) {
            return Err(Error::spec(format!(
                "expected a name of letters, digits and :-_.\\@ for a unit of systemd, got {:?}",
                scope.unit
            )));
        }
        expand(slice)?;
        Ok(scope)
    }

    /// Reads the `cgroupsPath` of a bundle in systemd's form, `SLICE:PREFIX:NAME`; without a slice it is system.slice.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split(':').collect::<Vec<_>>()[..] {
            [slice, prefix, name] => {
                Self::new(if slice.is_empty() { "system.slice" } else { slice }, prefix, name)
            }
            _ => Err(Error::spec(format!(
                "expected a cgroupsPath in the form SLICE:PREFIX:NAME, got {text:?}"
            ))),
        }
    }

    /// The cgroup's path in each hierarchy.
    pub fn path(&self) -> PathBuf {
        // The name was checked when the scope was made; one of a broken record is a place that nobody has.
        expand(&self.slice).unwrap_or_else(|_| "/invalid.slice".into()).join(&self.unit)
    }

    /// Starts the scope with `pid` in it; returns when its cgroup is there.
    pub(super) fn start(&self, pid: u32, resources: &LinuxResources, layout: &Layout) -> Result<()> {
        let mut bus = Bus::connect(Path::new(SOCKET))?;
        self.start_over(&mut bus, pid, resources, layout)
    }

    fn start_over(&self, bus: &mut Bus, pid: u32, resources: &LinuxResources, layout: &Layout) -> Result<()> {
        let description = format!("carrack container {}", self.unit.trim_end_matches(".scope"));
        let mut properties = properties::of_scope(&self.slice, &description, pid, layout);
        properties.extend(properties::of_limits(resources, layout)?);
        let arguments = [self.name(), replace(), Argument::Properties(properties), Argument::NoUnits];
        let result = match bus.run_job("StartTransientUnit", &arguments) {
            // One of the same name that has failed is kept by systemd until somebody has seen it.
            Err(Refusal::Named { name, .. }) if name.ends_with(".UnitExists") => {
                bus.call("ResetFailedUnit", &[self.name()])?;
                bus.run_job("StartTransientUnit", &arguments)
            }
            result => result,
        };
        match result {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => {
                let _ = bus.call("ResetFailedUnit", &[self.name()]);
                Err(Error::Systemd { reason: format!("the start of {} ended with {result:?}", self.unit) })
            }
            Err(refusal) => Err(Error::Systemd {
                reason: format!("cannot start {}: {}", self.unit, Error::from(refusal)),
            }),
        }
    }

    /// Sets those limits that `resources` names.
    pub(super) fn update(&self, resources: &LinuxResources, layout: &Layout) -> Result<()> {
        let mut bus = Bus::connect(Path::new(SOCKET))?;
        self.update_over(&mut bus, resources, layout)
    }

    fn update_over(&self, bus: &mut Bus, resources: &LinuxResources, layout: &Layout) -> Result<()> {
        let properties = properties::of_limits(resources, layout)?;
        if properties.is_empty() {
            return Ok(());
        }
        // Until the scope ends, not in a file for the next one of its name.
        let arguments = [self.name(), Argument::Bool(true), Argument::Properties(properties)];
        bus.call("SetUnitProperties", &arguments)?;
        Ok(())
    }

    /// Ends the scope and all that runs in it; one that is gone is ended already.
    pub(super) fn stop(&self) -> Result<()> {
        if !Path::new(SOCKET).exists() {
            return Ok(());
        }
        let mut bus = Bus::connect(Path::new(SOCKET))?;
        self.stop_over(&mut bus)
    }

    fn stop_over(&self, bus: &mut Bus) -> Result<()> {
        match bus.run_job("StopUnit", &[self.name(), replace()]) {
            Err(Refusal::Named { name, .. }) if name.ends_with(".NoSuchUnit") => return Ok(()),
            result => result.map_err(|refusal| Error::Systemd {
                reason: format!("cannot stop {}: {}", self.unit, Error::from(refusal)),
            })?,
        };
        // It is an error where it has not failed, or is gone by now.
        let _ = bus.call("ResetFailedUnit", &[self.name()]);
        Ok(())
    }

    fn name(&self) -> Argument {
        Argument::Text(self.unit.clone())
    }
}

/// In place of a job that waits.
fn replace() -> Argument {
    Argument::Text("replace".to_owned())
}

/// `a-b.slice` is the cgroup `/a.slice/a-b.slice`, `-.slice` the root (systemd.slice(5)).
fn expand(slice: &str) -> Result<PathBuf> {
    let wrong =
        || Error::spec(format!("expected the name of a slice of systemd, as in a-b.slice, got {slice:?}"));
    let stem = slice.strip_suffix(SLICE).filter(|stem| !stem.is_empty()).ok_or_else(wrong)?;
    if stem == "-" {
        return Ok("/".into());
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.\\@:".contains(&byte);
    if slice.len() > 255 || !stem.bytes().all(is_plain) || stem.split('-').any(str::is_empty) {
        return Err(wrong());
    }
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    Ok(ends.fold(PathBuf::from("/"), |path, end| path.join(format!("{}{SLICE}", &stem[..end]))))
}

#[cfg(test)]
mod tests;
