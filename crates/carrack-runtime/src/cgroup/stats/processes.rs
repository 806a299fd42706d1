//! What no controller counts, summed up over the processes of a container.
//!
//! A process that ended takes its memory with it, and leaves its traffic to the parent that waited for it: at the
//! latest to the container's first process.

use std::fs;

use rustix::process::Pid;

use super::{BlockIo, Counted, Stats, pairs};

/// Adds what is not `counted`. A process that ends meanwhile counts as much as could be read of it.
pub(super) fn add(stats: &mut Stats, counted: &Counted, processes: &[Pid]) {
    let file = |pid: &Pid, name: &str| {
        fs::read_to_string(format!("/proc/{}/{name}", pid.as_raw_pid())).unwrap_or_default()
    };
    if !counted.memory {
        stats.memory.usage_bytes =
            processes.iter().map(|pid| proportional_bytes(&file(pid, "smaps_rollup"))).sum();
    }
    if !counted.tasks {
        let threads = |pid: &Pid| field(&file(pid, "status"), "Threads").unwrap_or(0);
        stats.tasks.current = processes.iter().map(threads).sum();
    }
    if !counted.block_io && !processes.is_empty() {
        let mut all = BlockIo::default();
        for pid in processes {
            let text = file(pid, "io").replace(": ", " ");
            let counter =
                |wanted| pairs(&text).find(|(name, _)| *name == wanted).map_or(0, |(_, value)| value);
            all.read_bytes += counter("read_bytes");
            // Less what was deleted again before it was written.
            all.written_bytes += counter("write_bytes").saturating_sub(counter("cancelled_write_bytes"));
        }
        stats.block_io = vec![all];
    }
}

/// Memory of a process; what several share counts for each of them in part.
fn proportional_bytes(rollup: &str) -> u64 {
    field(rollup, "Pss").unwrap_or(0).saturating_mul(1024)
}

/// `Name:   12 kB`
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}
