//! Limits of the cgroup and of the processes.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use carrack_container::{DeviceRate, DeviceWeight, Resources, Ulimit};
use carrack_sys::IoContext;
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder, LinuxWeightDevice, LinuxWeightDeviceBuilder, PosixRlimit, PosixRlimitBuilder,
    PosixRlimitType,
};
use rustix::fs::{major, minor};

use crate::settings::ContainerSettings;
use crate::{Error, Result};

/// The period of CPU quotas, in microseconds (Docker's).
const CPU_PERIOD: u64 = 100_000;

pub fn rlimit(limit: &Ulimit) -> Result<PosixRlimit> {
    let name = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
    let kind: PosixRlimitType = serde_json::from_value(name.into()).map_err(|_| {
        Error::refused(format!("unknown ulimit {:?}", limit.name), "names are those of getrlimit(2)")
    })?;
    let value = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    if value(limit.soft) > value(limit.hard) {
        let message = format!("the soft limit {} of {} is above the hard one", limit.soft, limit.name);
        return Err(Error::refused(message, format!("expected at most {}", limit.hard)));
    }
    let rlimit =
        PosixRlimitBuilder::default().typ(kind).soft(value(limit.soft)).hard(value(limit.hard)).build();
    Ok(rlimit.expect("all fields are set"))
}

/// Sets what the user asked for, on top of the defaults.
pub fn configure(limits: &mut LinuxResources, asked: &Resources, settings: &ContainerSettings) -> Result<()> {
    if let Some(memory) = memory(asked) {
        limits.set_memory(Some(memory));
    }
    if let Some(cpu) = cpu(asked) {
        limits.set_cpu(Some(cpu));
    }
    if let Some(block_io) = block_io(asked)? {
        limits.set_block_io(Some(block_io));
    }
    if !asked.cgroup_conf.is_empty() {
        limits.set_unified(Some(asked.cgroup_conf.clone().into_iter().collect()));
    }
    let limit = match asked.pids_limit.unwrap_or(settings.pids_limit) {
        0 => -1, // Docker: 0 is unlimited too
        limit => limit,
    };
    let mut pids = LinuxPids::default();
    pids.set_limit(limit);
    limits.set_pids(Some(pids));
    Ok(())
}

fn memory(asked: &Resources) -> Option<LinuxMemory> {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let limit = asked.memory_bytes.map(signed);
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(limit)
        // Docker: as much swap again as memory, unless the user says otherwise.
        .set_swap(asked.memory_swap_bytes.or(limit.map(|bytes| bytes.saturating_mul(2))))
        .set_reservation(asked.memory_reservation_bytes.map(signed))
        .set_swappiness(asked.memory_swappiness.map(u64::from))
        .set_disable_oom_killer(asked.oom_kill_disable);
    (memory != LinuxMemory::default()).then_some(memory)
}

fn cpu(asked: &Resources) -> Option<LinuxCpu> {
    let mut cpu = LinuxCpu::default();
    cpu.set_period(asked.cpu_period_us)
        .set_quota(asked.cpu_quota_us)
        .set_realtime_period(asked.cpu_rt_period_us)
        .set_realtime_runtime(asked.cpu_rt_runtime_us)
        .set_shares(asked.cpu_shares)
        .set_cpus(asked.cpuset_cpus.clone())
        .set_mems(asked.cpuset_mems.clone());
    if let Some(nano_cpus) = asked.nano_cpus {
        let quota = nano_cpus * CPU_PERIOD / 1_000_000_000;
        cpu.set_period(Some(CPU_PERIOD)).set_quota(i64::try_from(quota).ok());
    }
    (cpu != LinuxCpu::default()).then_some(cpu)
}

fn block_io(asked: &Resources) -> Result<Option<LinuxBlockIo>> {
    let rates = |devices: &[DeviceRate]| -> Result<Option<Vec<LinuxThrottleDevice>>> {
        let devices = devices.iter().map(throttle).collect::<Result<Vec<_>>>()?;
        Ok(Some(devices).filter(|devices| !devices.is_empty()))
    };
    let weights = asked.blkio_weight_devices.iter().map(weight).collect::<Result<Vec<_>>>()?;
    let mut block_io = LinuxBlockIo::default();
    block_io
        .set_weight(asked.blkio_weight)
        .set_weight_device(Some(weights).filter(|weights| !weights.is_empty()))
        .set_throttle_read_bps_device(rates(&asked.device_read_bps)?)
        .set_throttle_write_bps_device(rates(&asked.device_write_bps)?)
        .set_throttle_read_iops_device(rates(&asked.device_read_iops)?)
        .set_throttle_write_iops_device(rates(&asked.device_write_iops)?);
    Ok((block_io != LinuxBlockIo::default()).then_some(block_io))
}

fn throttle(device: &DeviceRate) -> Result<LinuxThrottleDevice> {
    let (major, minor) = block_device(&device.path)?;
    let throttle = LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(device.rate).build();
    Ok(throttle.expect("all fields are set"))
}

fn weight(device: &DeviceWeight) -> Result<LinuxWeightDevice> {
    let (major, minor) = block_device(&device.path)?;
    let weight = LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(device.weight).build();
    Ok(weight.expect("all fields are set"))
}

/// The numbers of a block device of the host.
fn block_device(path: &Path) -> Result<(i64, i64)> {
    let metadata = std::fs::metadata(path).during("examine the device", path)?;
    if !metadata.file_type().is_block_device() {
        let message = format!("{} is no block device", path.display());
        return Err(Error::refused(message, "limits of block I/O are for whole disks, as in /dev/sda"));
    }
    let number = metadata.rdev();
    Ok((major(number).into(), minor(number).into()))
}
