//! Limits of the cgroup: those that `run`, `create` and `update` share.

use carrack_engine::{DeviceRate, DeviceWeight, Resources};
use clap::Args;

use crate::failure::{Result, invalid};
use crate::units;

#[derive(Args)]
pub struct LimitFlags {
    /// Limit of memory, as in 512m
    #[arg(short, long, value_name = "BYTES", value_parser = units::parse_bytes)]
    memory: Option<u64>,
    /// Limit of memory and swap together, as in 1g; -1 is unlimited
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// What memory is pressed down to when the host is short of it
    #[arg(long, value_name = "BYTES", value_parser = units::parse_bytes)]
    memory_reservation: Option<u64>,
    /// How readily memory is swapped out, 0 to 100; -1 is the host's (cgroup v1)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    memory_swappiness: Option<i16>,
    /// Limit of CPU time, as a number of CPUs
    #[arg(long, value_name = "NUMBER", value_parser = units::parse_cpus)]
    cpus: Option<u64>,
    /// Weight of CPU time under contention
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// Period of the quota of CPU time, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// CPU time in each period, in microseconds; -1 is unlimited
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Period of real-time scheduling, in microseconds (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,
    /// Real-time CPU time in each of its periods, in microseconds (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_runtime: Option<i64>,
    /// CPUs to run on, as in 0-2,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use, as in 0-1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Limit of processes and threads; -1 is unlimited
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// The same for one device
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    blkio_weight_device: Vec<String>,
    /// Limit of bytes a second that are read from a device, as in /dev/sda:1m
    #[arg(long, value_name = "DEVICE:BYTES")]
    device_read_bps: Vec<String>,
    /// Limit of bytes a second that are written to a device
    #[arg(long, value_name = "DEVICE:BYTES")]
    device_write_bps: Vec<String>,
    /// Limit of reads a second from a device, as in /dev/sda:100
    #[arg(long, value_name = "DEVICE:NUMBER")]
    device_read_iops: Vec<String>,
    /// Limit of writes a second to a device
    #[arg(long, value_name = "DEVICE:NUMBER")]
    device_write_iops: Vec<String>,
}

impl LimitFlags {
    /// What is asked of the engine.
    pub fn limits(&self) -> Result<Resources> {
        let bytes = |texts: &[String], flag| rates(texts, flag, &|text| units::parse_bytes(text).ok());
        let numbers = |texts: &[String], flag| rates(texts, flag, &|text| text.parse().ok());
        Ok(Resources {
            memory_bytes: self.memory.filter(|bytes| *bytes > 0),
            memory_swap_bytes: self.memory_swap.as_deref().map(memory_swap).transpose()?,
            memory_reservation_bytes: self.memory_reservation.filter(|bytes| *bytes > 0),
            memory_swappiness: self.memory_swappiness.map(swappiness).transpose()?.flatten(),
            nano_cpus: self.cpus,
            cpu_shares: self.cpu_shares.filter(|shares| *shares > 0),
            cpu_period_us: self.cpu_period.filter(|period| *period > 0),
            cpu_quota_us: self.cpu_quota.filter(|quota| *quota != 0),
            cpu_rt_period_us: self.cpu_rt_period.filter(|period| *period > 0),
            cpu_rt_runtime_us: self.cpu_rt_runtime.filter(|runtime| *runtime != 0),
            cpuset_cpus: self.cpuset_cpus.clone().filter(|list| !list.is_empty()),
            cpuset_mems: self.cpuset_mems.clone().filter(|list| !list.is_empty()),
            pids_limit: self.pids_limit,
            blkio_weight: self.blkio_weight.filter(|weight| *weight > 0),
            blkio_weight_devices: weights(&self.blkio_weight_device)?,
            device_read_bps: bytes(&self.device_read_bps, "--device-read-bps")?,
            device_write_bps: bytes(&self.device_write_bps, "--device-write-bps")?,
            device_read_iops: numbers(&self.device_read_iops, "--device-read-iops")?,
            device_write_iops: numbers(&self.device_write_iops, "--device-write-iops")?,
            ..Resources::default()
        })
    }
}

fn memory_swap(text: &str) -> Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    let bytes =
        units::parse_bytes(text).map_err(|_| invalid("--memory-swap", text, "a size, as in 1g, or -1"))?;
    Ok(i64::try_from(bytes).unwrap_or(-1))
}

fn swappiness(number: i16) -> Result<Option<u8>> {
    match u8::try_from(number) {
        Ok(percent @ 0..=100) => Ok(Some(percent)),
        _ if number == -1 => Ok(None),
        _ => Err(invalid("--memory-swappiness", &number.to_string(), "0 to 100, or -1")),
    }
}

/// `DEVICE:VALUE`; a path may have colons of its own.
fn device_and_value<'a>(text: &'a str, flag: &str) -> Result<(&'a str, &'a str)> {
    let parts = text.rsplit_once(':').filter(|(device, value)| device.starts_with('/') && !value.is_empty());
    parts.ok_or_else(|| invalid(flag, text, "a device and its limit, as in /dev/sda:100"))
}

fn rates(texts: &[String], flag: &str, parse: &dyn Fn(&str) -> Option<u64>) -> Result<Vec<DeviceRate>> {
    let rate = |text: &String| {
        let (path, value) = device_and_value(text, flag)?;
        let rate = parse(value).ok_or_else(|| invalid(flag, text, "a device and a positive number"))?;
        Ok(DeviceRate { path: path.into(), rate })
    };
    texts.iter().map(rate).collect()
}

fn weights(texts: &[String]) -> Result<Vec<DeviceWeight>> {
    const FLAG: &str = "--blkio-weight-device";
    let weight = |text: &String| {
        let (path, value) = device_and_value(text, FLAG)?;
        let weight = value.parse().map_err(|_| invalid(FLAG, text, "a device and a weight"))?;
        Ok(DeviceWeight { path: path.into(), weight })
    };
    texts.iter().map(weight).collect()
}
