//! Limits as files of cgroup v2 (kernel: Documentation/admin-guide/cgroup-v2.rst).

use std::fs;
use std::path::Path;

use carrack_sys::IoContext;
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxResources, LinuxThrottleDevice,
};

use super::{check_weights, devices, hugetlb_file, number, rdma_line, read, write};
use crate::{Error, Result};

/// Makes the folder `relative` below `root` and gives it `controllers`: each folder above must pass them down.
pub(super) fn make_folder(root: &Path, relative: &Path, controllers: &[&str]) -> Result<()> {
    let mut folder = root.to_owned();
    for part in relative {
        enable(&folder, controllers)?;
        folder.push(part);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            result => result.during("create the cgroup", &folder)?,
        }
    }
    Ok(())
}

/// Passes on those of `controllers` that the folder does not pass on yet.
fn enable(folder: &Path, controllers: &[&str]) -> Result<()> {
    const FILE: &str = "cgroup.subtree_control";
    if controllers.is_empty() {
        return Ok(());
    }
    let enabled = read(folder, FILE)?.unwrap_or_default();
    let is_enabled = |name: &str| enabled.split_ascii_whitespace().any(|one| one == name);
    let missing: Vec<String> =
        controllers.iter().filter(|name| !is_enabled(name)).map(|name| format!("+{name}")).collect();
    if missing.is_empty() { Ok(()) } else { write(folder, FILE, &missing.join(" ")) }
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
            let value = value.as_ref().filter(|value| !value.is_empty());
            value.map_or(Ok(()), |value| write(folder, file, value))?;
        }
    }
    if let Some(pids) = resources.pids().as_ref().filter(|_| has("pids", "pids.max")) {
        write(folder, "pids.max", &maximum(pids.limit()))?;
    }
    if let Some(block_io) = resources.block_io().as_ref().filter(|_| has("blkio", "io.max")) {
        apply_io(folder, block_io)?;
    }
    if !elsewhere("hugetlb") {
        apply_hugetlb(folder, resources.hugepage_limits().as_deref().unwrap_or_default())?;
    }
    if !elsewhere("rdma") {
        for (device, limit) in resources.rdma().iter().flatten() {
            write(folder, "rdma.max", &rdma_line(device, limit)?)?;
        }
    }
    if !elsewhere("devices") {
        devices::apply_v2(folder, resources.devices().as_deref().unwrap_or_default())?;
    }
    for (file, value) in resources.unified().iter().flatten() {
        write(folder, unified_file(file)?, value)?;
    }
    Ok(())
}

fn unified_file(name: &str) -> Result<&str> {
    let is_plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter));
    // Processes and controllers are not limits.
    if is_plain && name.contains('.') && !name.starts_with(['.', '-']) && !name.starts_with("cgroup.") {
        Ok(name)
    } else {
        Err(Error::spec(format!("expected the name of a cgroup v2 file, got {name:?}")))
    }
}

fn apply_memory(folder: &Path, memory: &LinuxMemory) -> Result<()> {
    let limit = memory.limit().filter(|bytes| *bytes != 0);
    if let Some(limit) = limit.filter(|_| memory.check_before_update() == Some(true)) {
        super::check_usage(folder, "memory.current", limit)?;
    }
    if memory.swappiness().is_some() {
        return Err(Error::spec("memory.swappiness: cgroup v2 has no swappiness of a cgroup"));
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(Error::spec("memory.disableOOMKiller: cgroup v2 cannot disable the OOM killer"));
    }
    if memory.kernel_tcp().is_some_and(|bytes| bytes > 0) {
        return Err(Error::spec("memory.kernelTCP: cgroup v2 has no limit of TCP buffers"));
    }
    let swap = swap_alone(folder, limit, memory.swap())?;
    if let Some(limit) = limit {
        write(folder, "memory.max", &maximum(limit))?;
    }
    if let Some(swap) = swap.filter(|_| folder.join("memory.swap.max").exists()) {
        write(folder, "memory.swap.max", &swap)?;
    }
    if let Some(reservation) = memory.reservation() {
        let value = if reservation < 0 { "max".to_owned() } else { reservation.to_string() };
        write(folder, "memory.low", &value)?;
    }
    Ok(())
}

/// The spec's number is the sum of memory and swap, the file's is swap alone.
fn swap_alone(folder: &Path, limit: Option<i64>, sum: Option<i64>) -> Result<Option<String>> {
    let memory = match limit {
        Some(limit) => u64::try_from(limit).ok(),
        None => number(folder, "memory.max")?,
    };
    match (sum, memory) {
        (None | Some(0), _) => Ok(None),
        (Some(..0), _) => Ok(Some("max".to_owned())),
        (Some(sum), Some(memory)) if sum.unsigned_abs() >= memory => {
            Ok(Some((sum.unsigned_abs() - memory).to_string()))
        }
        (Some(sum), memory) => Err(Error::spec(format!(
            "expected memory and swap to be at least the memory limit, got {sum} and {}",
            memory.map_or_else(|| "no limit".to_owned(), |memory| memory.to_string())
        ))),
    }
}

fn apply_cpu(folder: &Path, cpu: &LinuxCpu) -> Result<()> {
    let real_time = [
        ("realtimeRuntime", cpu.realtime_runtime().is_some_and(|runtime| runtime != 0)),
        ("realtimePeriod", cpu.realtime_period().is_some_and(|period| period != 0)),
    ];
    if let Some((name, _)) = real_time.iter().find(|(_, is_asked)| *is_asked) {
        return Err(Error::spec(format!("cpu.{name}: cgroup v2 has no real-time scheduling of a cgroup")));
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares > 0) {
        write(folder, "cpu.weight", &weight(shares).to_string())?;
    }
    if cpu.quota().is_some() || cpu.period().is_some() {
        // One file has both: what is not asked for stays.
        let current = read(folder, "cpu.max")?.unwrap_or_default();
        let mut current = current.split_ascii_whitespace();
        let (quota, period) = (current.next().unwrap_or("max"), current.next().unwrap_or("100000"));
        let quota = cpu.quota().map_or_else(|| quota.to_owned(), maximum);
        let period = cpu.period().map_or_else(|| period.to_owned(), |period| period.to_string());
        write(folder, "cpu.max", &format!("{quota} {period}"))?;
    }
    if let Some(burst) = cpu.burst() {
        write(folder, "cpu.max.burst", &burst.to_string())?;
    }
    if let Some(idle) = cpu.idle() {
        write(folder, "cpu.idle", &idle.to_string())?;
    }
    Ok(())
}

fn apply_io(folder: &Path, block_io: &LinuxBlockIo) -> Result<()> {
    let has_bfq = folder.join("io.bfq.weight").exists();
    let converted = |weight: u16| if has_bfq { u64::from(weight) } else { io_weight(weight) };
    let file = if has_bfq { "io.bfq.weight" } else { "io.weight" };
    let has_leaf = |weight: Option<u16>| weight.is_some_and(|weight| weight > 0);
    let of_devices = block_io.weight_device().iter().flatten();
    if has_leaf(block_io.leaf_weight()) || of_devices.clone().any(|one| has_leaf(one.leaf_weight())) {
        return Err(Error::spec("blockIO.leafWeight: cgroup v2 has no leaf weights"));
    }
    if let Some(weight) = block_io.weight().filter(|weight| *weight > 0) {
        write(folder, file, &converted(weight).to_string())?;
    }
    for device in of_devices {
        check_weights(device)?;
        if let Some(weight) = device.weight() {
            write(folder, file, &format!("{}:{} {}", device.major(), device.minor(), converted(weight)))?;
        }
    }
    for (key, devices) in [
        ("rbps", block_io.throttle_read_bps_device()),
        ("wbps", block_io.throttle_write_bps_device()),
        ("riops", block_io.throttle_read_iops_device()),
        ("wiops", block_io.throttle_write_iops_device()),
    ] {
        let line = |device: &LinuxThrottleDevice| {
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            format!("{}:{} {key}={rate}", device.major(), device.minor())
        };
        devices.iter().flatten().try_for_each(|device| write(folder, "io.max", &line(device)))?;
    }
    Ok(())
}

fn apply_hugetlb(folder: &Path, limits: &[LinuxHugepageLimit]) -> Result<()> {
    for limit in limits {
        write(folder, &hugetlb_file(limit, "max")?, &limit.limit().to_string())?;
        let reserved = hugetlb_file(limit, "rsvd.max")?;
        if folder.join(&reserved).exists() {
            write(folder, &reserved, &limit.limit().to_string())?;
        }
    }
    Ok(())
}

/// A limit as the kernel writes it: none for zero and below, as in Docker.
pub(super) fn maximum(limit: i64) -> String {
    if limit > 0 { limit.to_string() } else { "max".to_owned() }
}

/// Maps v1 shares (2 to 262144) to v2 weight (1 to 10000), as all runtimes do.
pub(super) fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

/// Maps a v1 block I/O weight (10 to 1000) to v2's (1 to 10000), as all runtimes do.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9_999 / 990
}

#[cfg(test)]
mod tests {
    use super::{io_weight, weight};

    #[test]
    fn shares_cover_the_range_of_weights() {
        assert_eq!(
            (weight(1), weight(2), weight(1024), weight(262_144), weight(u64::MAX)),
            (1, 1, 39, 10_000, 10_000)
        );
        assert_eq!((io_weight(0), io_weight(10), io_weight(500), io_weight(1000)), (1, 1, 4950, 10_000));
    }
}
