//! Limits as files of cgroup v1 (kernel: Documentation/admin-guide/cgroup-v1).

use std::path::Path;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxResources,
    LinuxThrottleDevice,
};

use super::v2::maximum;
use super::{Hierarchy, check_weights, devices, hugetlb_file, number, rdma_line, read, write};
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
        write(folder, "pids.max", &maximum(pids.limit()))?;
    }
    if hierarchy.has("devices") {
        devices::apply_v1(folder, resources.devices().as_deref().unwrap_or_default())?;
    }
    if let Some(block_io) = resources.block_io().as_ref().filter(|_| hierarchy.has("blkio")) {
        apply_block_io(folder, block_io)?;
    }
    if hierarchy.has("hugetlb") {
        apply_hugetlb(folder, resources.hugepage_limits().as_deref().unwrap_or_default())?;
    }
    if hierarchy.has("rdma") {
        for (device, limit) in resources.rdma().iter().flatten() {
            write(folder, "rdma.max", &rdma_line(device, limit)?)?;
        }
    }
    resources.network().as_ref().map_or(Ok(()), |network| apply_network(hierarchy, network))
}

const MEMORY: &str = "memory.limit_in_bytes";
const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";

fn apply_memory(folder: &Path, memory: &LinuxMemory) -> Result<()> {
    if let Some(limit) = memory.limit().filter(|_| memory.check_before_update() == Some(true)) {
        super::check_usage(folder, "memory.usage_in_bytes", limit)?;
    }
    apply_memory_and_swap(folder, memory)?;
    for (file, value) in [
        ("memory.soft_limit_in_bytes", memory.reservation().map(|bytes| bytes.to_string())),
        ("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp().map(|bytes| bytes.to_string())),
        ("memory.swappiness", memory.swappiness().map(|percent| percent.to_string())),
        ("memory.oom_control", memory.disable_oom_killer().map(|disable| i32::from(disable).to_string())),
        ("memory.use_hierarchy", memory.use_hierarchy().filter(|on| *on).map(|_| "1".to_owned())),
    ] {
        value.map_or(Ok(()), |value| write(folder, file, &value))?;
    }
    Ok(())
}

/// The sum with swap must never be below the limit: raising begins with the sum, lowering with the limit.
fn apply_memory_and_swap(folder: &Path, memory: &LinuxMemory) -> Result<()> {
    let limit = memory.limit().filter(|bytes| *bytes != 0);
    // No limit of memory means none of the sum either, unless one is asked for.
    let sum = memory.swap().filter(|bytes| *bytes != 0).or(limit.filter(|bytes| *bytes < 0));
    let write_sum = || match sum.map(|sum| write(folder, WITH_SWAP, &sum.to_string())) {
        // The kernel does not account for swap: then there is none to limit.
        Some(Err(Error::Sys(error))) if error.is_not_found() => Ok(()),
        result => result.unwrap_or(Ok(())),
    };
    let write_limit = || limit.map_or(Ok(()), |limit| write(folder, MEMORY, &limit.to_string()));
    let current = number(folder, WITH_SWAP)?;
    let raises = sum.is_some_and(|sum| {
        sum < 0 || current.is_some_and(|current| u64::try_from(sum).is_ok_and(|sum| sum > current))
    });
    if raises {
        write_sum()?;
        write_limit()
    } else {
        write_limit()?;
        write_sum()
    }
}

fn apply_cpu(folder: &Path, cpu: &LinuxCpu) -> Result<()> {
    let real_time = [
        ("cpu.rt_period_us", cpu.realtime_period().map(u64::cast_signed)),
        ("cpu.rt_runtime_us", cpu.realtime_runtime()),
    ];
    if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime > 0) {
        grant_real_time(folder, runtime)?;
    }
    for (file, value) in real_time {
        value.map_or(Ok(()), |value| write(folder, file, &value.to_string()))?;
    }
    for (file, value) in [("cpu.shares", cpu.shares().map(u64::cast_signed)), ("cpu.idle", cpu.idle())] {
        value.map_or(Ok(()), |value| write(folder, file, &value.to_string()))?;
    }
    apply_quota(folder, cpu)
}

/// The quota must not exceed that of the cgroup above in relation to the period, nor the burst the quota: what fails
/// in one order succeeds in the other.
fn apply_quota(folder: &Path, cpu: &LinuxCpu) -> Result<()> {
    let period =
        || cpu.period().map_or(Ok(()), |period| write(folder, "cpu.cfs_period_us", &period.to_string()));
    let quota = || cpu.quota().map_or(Ok(()), |quota| write(folder, "cpu.cfs_quota_us", &quota.to_string()));
    let burst = || cpu.burst().map_or(Ok(()), |burst| write(folder, "cpu.cfs_burst_us", &burst.to_string()));
    let burst_first = burst().is_ok();
    let period_first = period().is_ok();
    quota()?;
    if !period_first {
        period()?;
    }
    if burst_first { Ok(()) } else { burst() }
}

/// A cgroup has real-time runtime only out of what the one above has; those that carrack made have none yet.
fn grant_real_time(folder: &Path, runtime: i64) -> Result<()> {
    const FILE: &str = "cpu.rt_runtime_us";
    let Some(parent) = folder.parent().filter(|parent| parent.join(FILE).exists()) else { return Ok(()) };
    let own = number(parent, FILE)?.unwrap_or(0);
    if own >= runtime.unsigned_abs() {
        return Ok(());
    }
    grant_real_time(parent, runtime)?;
    write(parent, FILE, &runtime.to_string())
}

/// A new cpuset is empty and takes no process: it and its parents that carrack made get what their parents have.
fn apply_cpuset(folder: &Path, cpu: Option<&LinuxCpu>) -> Result<()> {
    let wanted = |file| match file {
        "cpuset.cpus" => cpu.and_then(|cpu| cpu.cpus().as_deref()),
        _ => cpu.and_then(|cpu| cpu.mems().as_deref()),
    };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        inherit(folder, file)?;
        if let Some(value) = wanted(file).filter(|value| !value.is_empty()) {
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

fn apply_block_io(folder: &Path, block_io: &LinuxBlockIo) -> Result<()> {
    let weight_file = weight_file(folder, "weight");
    if let Some(weight) = block_io.weight().filter(|weight| *weight > 0) {
        let file = weight_file.ok_or_else(no_weights)?;
        write(folder, &file, &weight.to_string())?;
    }
    if let Some(weight) = block_io.leaf_weight().filter(|weight| *weight > 0) {
        write(folder, "blkio.leaf_weight", &weight.to_string())?;
    }
    for device in block_io.weight_device().iter().flatten() {
        check_weights(device)?;
        let numbers = format!("{}:{}", device.major(), device.minor());
        if let Some(weight) = device.weight() {
            let file = self::weight_file(folder, "weight_device").ok_or_else(no_weights)?;
            write(folder, &file, &format!("{numbers} {weight}"))?;
        }
        if let Some(weight) = device.leaf_weight() {
            write(folder, "blkio.leaf_weight_device", &format!("{numbers} {weight}"))?;
        }
    }
    for (file, devices) in [
        ("blkio.throttle.read_bps_device", block_io.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", block_io.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", block_io.throttle_read_iops_device()),
        ("blkio.throttle.write_iops_device", block_io.throttle_write_iops_device()),
    ] {
        let line =
            |device: &LinuxThrottleDevice| format!("{}:{} {}", device.major(), device.minor(), device.rate());
        devices.iter().flatten().try_for_each(|device| write(folder, file, &line(device)))?;
    }
    Ok(())
}

/// Weights belong to an I/O scheduler: CFQ of old kernels, or BFQ.
fn weight_file(folder: &Path, name: &str) -> Option<String> {
    let names = [format!("blkio.{name}"), format!("blkio.bfq.{name}")];
    names.into_iter().find(|file| folder.join(file).exists())
}

fn no_weights() -> Error {
    Error::spec("expected an I/O scheduler with weights (bfq), got a kernel without one")
}

fn apply_hugetlb(folder: &Path, limits: &[LinuxHugepageLimit]) -> Result<()> {
    for limit in limits {
        let value = limit.limit().to_string();
        write(folder, &hugetlb_file(limit, "limit_in_bytes")?, &value)?;
        let reserved = hugetlb_file(limit, "rsvd.limit_in_bytes")?;
        if folder.join(&reserved).exists() {
            write(folder, &reserved, &value)?;
        }
    }
    Ok(())
}

fn apply_network(hierarchy: &Hierarchy, network: &LinuxNetwork) -> Result<()> {
    if let Some(class) = network.class_id().filter(|_| hierarchy.has("net_cls")) {
        write(&hierarchy.folder, "net_cls.classid", &class.to_string())?;
    }
    if hierarchy.has("net_prio") {
        for one in network.priorities().iter().flatten() {
            let line = format!("{} {}", one.name(), one.priority());
            write(&hierarchy.folder, "net_prio.ifpriomap", &line)?;
        }
    }
    Ok(())
}
