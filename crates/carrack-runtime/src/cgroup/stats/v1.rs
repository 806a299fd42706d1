//! The counters of cgroup v1.

use std::path::Path;

use super::super::{Hierarchy, number, read};
use super::{BlockIo, Counted, Memory, Stats, pairs};
use crate::Result;

/// v1 has no word for "no limit", only the largest number of pages.
const UNLIMITED: u64 = 1 << 62;

/// Adds what the hierarchy counts.
pub(super) fn add(stats: &mut Stats, counted: &mut Counted, hierarchy: &Hierarchy) -> Result<()> {
    let folder = &hierarchy.folder;
    if let Some(usage) = number(folder, "cpuacct.usage")?.filter(|_| !counted.cpu) {
        counted.cpu = true;
        stats.cpu.usage_ns = usage;
        stats.cpu.user_ns = number(folder, "cpuacct.usage_user")?.unwrap_or(0);
        stats.cpu.system_ns = number(folder, "cpuacct.usage_sys")?.unwrap_or(0);
    }
    if hierarchy.has("cpu") {
        for (name, value) in pairs(&read(folder, "cpu.stat")?.unwrap_or_default()) {
            match name {
                "nr_periods" => stats.cpu.periods = value,
                "nr_throttled" => stats.cpu.throttled_periods = value,
                "throttled_time" => stats.cpu.throttled_ns = value,
                _ => {}
            }
        }
    }
    if let Some(usage) = number(folder, "memory.usage_in_bytes")? {
        counted.memory = true;
        stats.memory = memory(folder, usage)?;
    }
    if let Some(current) = number(folder, "pids.current")? {
        counted.tasks = true;
        stats.tasks.current = current;
        stats.tasks.limit = number(folder, "pids.max")?;
    }
    if hierarchy.has("blkio") {
        counted.block_io = true;
        stats.block_io = block_io(folder)?;
    }
    Ok(())
}

fn memory(folder: &Path, usage_bytes: u64) -> Result<Memory> {
    let details: std::collections::BTreeMap<String, u64> =
        pairs(&read(folder, "memory.stat")?.unwrap_or_default())
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
    let detail = |name| details.get(name).copied().unwrap_or(0);
    let with_swap = number(folder, "memory.memsw.usage_in_bytes")?.unwrap_or(0);
    let events = read(folder, "memory.oom_control")?.unwrap_or_default();
    Ok(Memory {
        usage_bytes,
        max_usage_bytes: number(folder, "memory.max_usage_in_bytes")?,
        limit_bytes: number(folder, "memory.limit_in_bytes")?.filter(|limit| *limit < UNLIMITED),
        cache_bytes: detail("total_cache"),
        inactive_file_bytes: detail("total_inactive_file"),
        swap_bytes: with_swap.saturating_sub(usage_bytes),
        limit_hits: number(folder, "memory.failcnt")?.unwrap_or(0),
        oom_kills: pairs(&events).find(|(name, _)| *name == "oom_kill").map_or(0, |(_, count)| count),
        details,
    })
}

/// The counters of the throttle work with every I/O scheduler.
fn block_io(folder: &Path) -> Result<Vec<BlockIo>> {
    let mut devices: Vec<BlockIo> = Vec::new();
    for (file, is_bytes) in
        [("blkio.throttle.io_service_bytes_recursive", true), ("blkio.throttle.io_serviced_recursive", false)]
    {
        for line in read(folder, file)?.unwrap_or_default().lines() {
            // `8:0 Read 4096`; the last line is a sum, `Total 4096`.
            let [device, kind, value] = line.split_ascii_whitespace().collect::<Vec<_>>()[..] else {
                continue;
            };
            let numbers = device
                .split_once(':')
                .and_then(|(major, minor)| Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?)));
            let (Some((major, minor)), Ok(value)) = (numbers, value.parse()) else { continue };
            let known = devices.iter().position(|one| (one.major, one.minor) == (major, minor));
            let known = known.unwrap_or_else(|| {
                devices.push(BlockIo { major, minor, ..BlockIo::default() });
                devices.len() - 1
            });
            match (kind, is_bytes) {
                ("Read", true) => devices[known].read_bytes = value,
                ("Write", true) => devices[known].written_bytes = value,
                ("Read", false) => devices[known].reads = value,
                ("Write", false) => devices[known].writes = value,
                _ => {}
            }
        }
    }
    Ok(devices)
}
