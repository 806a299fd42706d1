//! Limits as files of cgroup v2 (kernel: Documentation/admin-guide/cgroup-v2.rst).

use std::fs;
use std::path::Path;

use carrack_sys::IoContext;
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::write;
use crate::{Error, Result};

/// Makes the folder `relative` below `root` and gives it `controllers`: each folder above must pass them down.
pub(super) fn make_folder(root: &Path, relative: &Path, controllers: &[&str]) -> Result<()> {
    let enable: Vec<String> = controllers.iter().map(|controller| format!("+{controller}")).collect();
    let enable = enable.join(" ");
    let mut folder = root.to_owned();
    for part in relative {
        if !enable.is_empty() {
            write(&folder, "cgroup.subtree_control", &enable)?;
        }
        folder.push(part);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            result => result.during("create the cgroup", &folder)?,
        }
    }
    Ok(())
}

/// Writes those of `resources` whose controllers are not `elsewhere`, in a v1 hierarchy.
pub(super) fn apply(
    folder: &Path,
    resources: &LinuxResources,
    elsewhere: &dyn Fn(&str) -> bool,
) -> Result<()> {
    let has = |controller: &str, file: &str| !elsewhere(controller) && folder.join(file).exists();
    if let Some(memory) = resources.memory().as_ref().filter(|_| has("memory", "memory.max")) {
        apply_memory(folder, memory)?;
    }
    if let Some(cpu) = resources.cpu().as_ref().filter(|_| has("cpu", "cpu.max")) {
        apply_cpu(folder, cpu)?;
    }
    if let Some(cpu) = resources.cpu().as_ref().filter(|_| has("cpuset", "cpuset.cpus")) {
        for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            value.as_ref().map_or(Ok(()), |value| write(folder, file, value))?;
        }
    }
    if let Some(pids) = resources.pids().as_ref().filter(|_| has("pids", "pids.max")) {
        write(folder, "pids.max", &maximum(pids.limit()))?;
    }
    for (file, value) in resources.unified().iter().flatten() {
        if file.contains('/') || !file.contains('.') {
            return Err(Error::spec(format!("expected the name of a cgroup v2 file, got {file:?}")));
        }
        write(folder, file, value)?;
    }
    Ok(())
}

fn apply_memory(folder: &Path, memory: &LinuxMemory) -> Result<()> {
    if let Some(limit) = memory.limit() {
        write(folder, "memory.max", &maximum(limit))?;
    }
    if let Some(sum) = memory.swap().filter(|_| folder.join("memory.swap.max").exists()) {
        // The spec's number is the sum of memory and swap, the file's is swap alone.
        let swap = match memory.limit() {
            _ if sum <= 0 => sum,
            Some(limit) if limit > 0 && sum >= limit => sum - limit,
            limit => {
                return Err(Error::spec(format!(
                    "expected memory and swap to be at least the memory limit, got {sum} and {limit:?}"
                )));
            }
        };
        write(folder, "memory.swap.max", &if sum > 0 { swap.to_string() } else { maximum(swap) })?;
    }
    if let Some(reservation) = memory.reservation() {
        write(folder, "memory.low", &reservation.to_string())?;
    }
    Ok(())
}

fn apply_cpu(folder: &Path, cpu: &LinuxCpu) -> Result<()> {
    if let Some(shares) = cpu.shares().filter(|shares| *shares > 0) {
        write(folder, "cpu.weight", &weight(shares).to_string())?;
    }
    if cpu.quota().is_some() || cpu.period().is_some() {
        let quota = cpu.quota().map_or("max".to_owned(), maximum);
        let period = cpu.period().unwrap_or(100_000);
        write(folder, "cpu.max", &format!("{quota} {period}"))?;
    }
    if let Some(idle) = cpu.idle() {
        write(folder, "cpu.idle", &idle.to_string())?;
    }
    Ok(())
}

/// A limit as the kernel writes it: none for zero and below, as in Docker.
pub(super) fn maximum(limit: i64) -> String {
    if limit > 0 { limit.to_string() } else { "max".to_owned() }
}

/// Maps v1 shares (2 to 262144) to v2 weight (1 to 10000), as all runtimes do.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn shares_cover_the_range_of_weights() {
        assert_eq!(
            (weight(1), weight(2), weight(1024), weight(262_144), weight(u64::MAX)),
            (1, 1, 39, 10_000, 10_000)
        );
    }
}
