//! The counters of cgroup v2.

use std::path::Path;

use super::super::{number, read};
use super::{BlockIo, Counted, Memory, Stats, pairs};
use crate::Result;

/// Adds what the folder counts: CPU time always, the rest where its controller is enabled.
pub(super) fn add(stats: &mut Stats, counted: &mut Counted, folder: &Path) -> Result<()> {
    if let Some(text) = read(folder, "cpu.stat")? {
        counted.cpu = true;
        for (name, value) in pairs(&text) {
            let cpu = &mut stats.cpu;
            match name {
                "usage_usec" => cpu.usage_ns = value.saturating_mul(1000),
                "user_usec" => cpu.user_ns = value.saturating_mul(1000),
                "system_usec" => cpu.system_ns = value.saturating_mul(1000),
                "nr_periods" => cpu.periods = value,
                "nr_throttled" => cpu.throttled_periods = value,
                "throttled_usec" => cpu.throttled_ns = value.saturating_mul(1000),
                _ => {}
            }
        }
    }
    if let Some(usage) = number(folder, "memory.current")? {
        counted.memory = true;
        stats.memory = memory(folder, usage)?;
    }
    if let Some(current) = number(folder, "pids.current")? {
        counted.tasks = true;
        stats.tasks.current = current;
        stats.tasks.limit = number(folder, "pids.max")?;
    }
    if let Some(text) = read(folder, "io.stat")? {
        counted.block_io = true;
        stats.block_io = text.lines().filter_map(block_io).collect();
    }
    Ok(())
}

fn memory(folder: &Path, usage_bytes: u64) -> Result<Memory> {
    let details: std::collections::BTreeMap<String, u64> =
        pairs(&read(folder, "memory.stat")?.unwrap_or_default())
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
    let events = read(folder, "memory.events")?.unwrap_or_default();
    let event = |wanted| pairs(&events).find(|(name, _)| *name == wanted).map_or(0, |(_, count)| count);
    let detail = |name| details.get(name).copied().unwrap_or(0);
    Ok(Memory {
        usage_bytes,
        max_usage_bytes: number(folder, "memory.peak")?,
        limit_bytes: number(folder, "memory.max")?,
        cache_bytes: detail("file"),
        inactive_file_bytes: detail("inactive_file"),
        swap_bytes: number(folder, "memory.swap.current")?.unwrap_or(0),
        limit_hits: event("max"),
        oom_kills: event("oom_kill"),
        details,
    })
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`
fn block_io(line: &str) -> Option<BlockIo> {
    let (device, counters) = line.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    let mut block_io =
        BlockIo { major: major.parse().ok()?, minor: minor.parse().ok()?, ..BlockIo::default() };
    for (name, value) in counters.split_ascii_whitespace().filter_map(|one| one.split_once('=')) {
        let Ok(value) = value.parse() else { continue };
        match name {
            "rbytes" => block_io.read_bytes = value,
            "wbytes" => block_io.written_bytes = value,
            "rios" => block_io.reads = value,
            "wios" => block_io.writes = value,
            _ => {}
        }
    }
    Some(block_io)
}
