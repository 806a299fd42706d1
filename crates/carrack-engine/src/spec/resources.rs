//! Limits of the cgroup and of the processes.

use carrack_container::{Resources, Ulimit};
use oci_spec::runtime::{
    LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
};

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
    let rlimit =
        PosixRlimitBuilder::default().typ(kind).soft(value(limit.soft)).hard(value(limit.hard)).build();
    Ok(rlimit.expect("all fields are set"))
}

/// Sets what the user asked for, on top of the defaults.
pub fn configure(limits: &mut LinuxResources, asked: &Resources, settings: &ContainerSettings) {
    if let Some(bytes) = asked.memory_bytes {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut memory = LinuxMemory::default();
        // Docker: as much swap again as memory, unless the user says otherwise.
        memory
            .set_limit(Some(bytes))
            .set_swap(Some(asked.memory_swap_bytes.unwrap_or(bytes.saturating_mul(2))));
        limits.set_memory(Some(memory));
    }
    if asked.nano_cpus.is_some() || asked.cpu_shares.is_some() || asked.cpuset_cpus.is_some() {
        let mut cpu = LinuxCpu::default();
        if let Some(nano_cpus) = asked.nano_cpus {
            let quota = nano_cpus * CPU_PERIOD / 1_000_000_000;
            cpu.set_period(Some(CPU_PERIOD)).set_quota(i64::try_from(quota).ok());
        }
        cpu.set_shares(asked.cpu_shares).set_cpus(asked.cpuset_cpus.clone());
        limits.set_cpu(Some(cpu));
    }
    let limit = match asked.pids_limit.unwrap_or(settings.pids_limit) {
        0 => -1, // Docker: 0 is unlimited too
        limit => limit,
    };
    let mut pids = LinuxPids::default();
    pids.set_limit(limit);
    limits.set_pids(Some(pids));
}
