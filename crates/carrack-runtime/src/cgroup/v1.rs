//! Limits as files of cgroup v1 (kernel: Documentation/admin-guide/cgroup-v1).

use std::path::Path;

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::{Hierarchy, read, write};
use crate::{Error, Result};

/// Writes those of `resources` that `hierarchy` has the controllers of.
pub(super) fn apply(hierarchy: &Hierarchy, resources: &LinuxResources) -> Result<()> {
    let folder = &hierarchy.folder;
    if let Some(memory) = resources.memory().as_ref().filter(|_| hierarchy.has("memory")) {
        apply_memory(folder, memory)?;
    }
    if let Some(cpu) = resources.cpu().as_ref().filter(|_| hierarchy.has("cpu")) {
        apply_cpu(folder, cpu)?;
    }
    if hierarchy.has("cpuset") {
        apply_cpuset(folder, resources.cpu().as_ref())?;
    }
    if let Some(pids) = resources.pids().as_ref().filter(|_| hierarchy.has("pids")) {
        write(folder, "pids.max", &super::v2::maximum(pids.limit()))?;
    }
    if hierarchy.has("devices") {
        for rule in resources.devices().iter().flatten() {
            write(folder, if rule.allow() { "devices.allow" } else { "devices.deny" }, &rule.to_string())?;
        }
    }
    Ok(())
}

fn apply_memory(folder: &Path, memory: &LinuxMemory) -> Result<()> {
    const LIMIT: &str = "memory.limit_in_bytes";
    const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
    let limit = memory.limit().map(|bytes| bytes.to_string());
    // The sum with swap must never be below the limit: raising begins with the sum, lowering with the limit.
    let limit_first = limit.as_ref().is_none_or(|bytes| write(folder, LIMIT, bytes).is_ok());
    if let Some(sum) = memory.swap() {
        match write(folder, WITH_SWAP, &sum.to_string()) {
            // The kernel does not account for swap: then there is none to limit.
            Err(Error::Sys(error)) if error.is_not_found() => {}
            result => result?,
        }
    }
    if let Some(bytes) = limit.filter(|_| !limit_first) {
        write(folder, LIMIT, &bytes)?;
    }
    if let Some(bytes) = memory.reservation() {
        write(folder, "memory.soft_limit_in_bytes", &bytes.to_string())?;
    }
    if let Some(percent) = memory.swappiness() {
        write(folder, "memory.swappiness", &percent.to_string())?;
    }
    if let Some(disable) = memory.disable_oom_killer() {
        write(folder, "memory.oom_control", if disable { "1" } else { "0" })?;
    }
    Ok(())
}

fn apply_cpu(folder: &Path, cpu: &LinuxCpu) -> Result<()> {
    if let Some(shares) = cpu.shares() {
        write(folder, "cpu.shares", &shares.to_string())?;
    }
    if let Some(period) = cpu.period() {
        write(folder, "cpu.cfs_period_us", &period.to_string())?;
    }
    if let Some(quota) = cpu.quota() {
        write(folder, "cpu.cfs_quota_us", &quota.to_string())?;
    }
    if let Some(idle) = cpu.idle() {
        write(folder, "cpu.idle", &idle.to_string())?;
    }
    Ok(())
}

/// A new cpuset is empty and takes no process: it and its parents that carrack made get what their parents have.
fn apply_cpuset(folder: &Path, cpu: Option<&LinuxCpu>) -> Result<()> {
    let wanted = |file| match file {
        "cpuset.cpus" => cpu.and_then(|cpu| cpu.cpus().as_deref()),
        _ => cpu.and_then(|cpu| cpu.mems().as_deref()),
    };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        inherit(folder, file)?;
        if let Some(value) = wanted(file) {
            write(folder, file, value)?;
        }
    }
    Ok(())
}

fn inherit(folder: &Path, file: &str) -> Result<String> {
    let own = read(folder, file)?.unwrap_or_default();
    let own = own.trim();
    let Some(parent) = folder.parent().filter(|_| own.is_empty()) else { return Ok(own.to_owned()) };
    if !parent.join(file).exists() {
        return Ok(String::new()); // above the root of the hierarchy
    }
    let value = inherit(parent, file)?;
    if !value.is_empty() {
        write(folder, file, &value)?;
    }
    Ok(value)
}
