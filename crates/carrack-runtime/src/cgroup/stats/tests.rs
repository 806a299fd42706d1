//! Counters of folders that look like hierarchies.

use std::fs;
use std::path::Path;

use super::super::{Cgroup, Layout};
use super::*;

fn files(root: &Path, files: &[(&str, &str)]) -> Cgroup {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    Cgroup::open_in(&Layout::detect(root).unwrap(), Path::new("/one")).unwrap()
}

#[test]
fn v2_counts_all_in_one_folder() {
    let root = tempfile::tempdir().unwrap();
    let cgroup = files(
        root.path(),
        &[
            ("cgroup.controllers", "cpu io memory pids\n"),
            ("one/cgroup.procs", ""),
            (
                "one/cpu.stat",
                "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 1\nthrottled_usec 7\n",
            ),
            ("one/memory.current", "1000\n"),
            ("one/memory.peak", "1500\n"),
            ("one/memory.max", "max\n"),
            ("one/memory.swap.current", "5\n"),
            ("one/memory.stat", "anon 600\nfile 400\ninactive_file 300\n"),
            ("one/memory.events", "low 0\nmax 3\noom 2\noom_kill 1\n"),
            ("one/pids.current", "2\n"),
            ("one/pids.max", "7\n"),
            ("one/io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:16 rbytes=9\n"),
        ],
    );
    let stats = cgroup.stats().unwrap();
    assert_eq!((stats.cpu.usage_ns, stats.cpu.user_ns, stats.cpu.throttled_ns), (30_000, 20_000, 7_000));
    assert_eq!((stats.cpu.periods, stats.cpu.throttled_periods), (4, 1));
    let memory = &stats.memory;
    assert_eq!((memory.usage_bytes, memory.working_set_bytes(), memory.limit_bytes), (1000, 700, None));
    assert_eq!((memory.max_usage_bytes, memory.swap_bytes), (Some(1500), 5));
    assert_eq!((memory.limit_hits, memory.oom_kills, memory.details["anon"]), (3, 1, 600));
    assert_eq!(stats.tasks, Tasks { current: 2, limit: Some(7) });
    assert_eq!(stats.block_io.len(), 2);
    assert_eq!((stats.block_io[0].written_bytes, stats.block_io[0].reads), (2, 3));
    assert_eq!((stats.block_io[1].minor, stats.block_io[1].read_bytes), (16, 9));
}

#[test]
fn v1_counts_in_several_hierarchies() {
    let root = tempfile::tempdir().unwrap();
    for hierarchy in ["cpu,cpuacct", "memory", "pids", "blkio"] {
        fs::create_dir_all(root.path().join(hierarchy)).unwrap();
        fs::write(root.path().join(hierarchy).join("cgroup.procs"), "").unwrap();
    }
    let cgroup = files(
        root.path(),
        &[
            ("cpu,cpuacct/one/cpuacct.usage", "30\n"),
            ("cpu,cpuacct/one/cpuacct.usage_user", "20\n"),
            ("cpu,cpuacct/one/cpuacct.usage_sys", "10\n"),
            ("cpu,cpuacct/one/cpu.stat", "nr_periods 4\nnr_throttled 1\nthrottled_time 7\n"),
            ("memory/one/memory.usage_in_bytes", "1000\n"),
            ("memory/one/memory.memsw.usage_in_bytes", "1005\n"),
            ("memory/one/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/one/memory.stat", "cache 1\ntotal_cache 400\ntotal_inactive_file 300\n"),
            ("memory/one/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("pids/one/pids.current", "2\n"),
            ("pids/one/pids.max", "max\n"),
            (
                "blkio/one/blkio.throttle.io_service_bytes_recursive",
                "8:0 Read 4096\n8:0 Write 8192\n8:0 Total 12288\nTotal 12288\n",
            ),
            ("blkio/one/blkio.throttle.io_serviced_recursive", "8:0 Read 1\n8:0 Write 2\nTotal 3\n"),
        ],
    );
    let stats = cgroup.stats().unwrap();
    assert_eq!((stats.cpu.usage_ns, stats.cpu.system_ns, stats.cpu.throttled_ns), (30, 10, 7));
    let memory = &stats.memory;
    assert_eq!((memory.working_set_bytes(), memory.limit_bytes, memory.oom_kills), (700, None, 2));
    assert_eq!((memory.swap_bytes, memory.cache_bytes), (5, 400));
    assert_eq!(stats.tasks, Tasks { current: 2, limit: None });
    let expected = BlockIo { major: 8, minor: 0, read_bytes: 4096, written_bytes: 8192, reads: 1, writes: 2 };
    assert_eq!(stats.block_io, [expected]);
}

#[test]
fn what_nothing_counts_is_summed_up_over_processes() {
    let root = tempfile::tempdir().unwrap();
    let own = std::process::id().to_string();
    let cgroup = files(
        root.path(),
        &[
            ("devices/cgroup.procs", ""),
            ("devices/one/cgroup.procs", &own),
            ("unified/cgroup.controllers", ""),
            ("unified/one/cgroup.procs", &own),
            ("unified/one/cpu.stat", "usage_usec 1\nuser_usec 1\nsystem_usec 0\n"),
        ],
    );
    let block = std::hint::black_box(vec![1u8; 32 << 20]);
    let stats = cgroup.stats().unwrap();
    assert_eq!(stats.cpu.usage_ns, 1000);
    assert!((32 << 20..4 << 30).contains(&stats.memory.usage_bytes), "{}", stats.memory.usage_bytes);
    assert!(stats.tasks.current >= 1);
    assert_eq!(stats.block_io.len(), 1);
    drop(block);
}

#[test]
fn the_interfaces_of_a_process_are_read() {
    let interfaces = network_interfaces(std::process::id() as i32).unwrap();
    assert!(interfaces.iter().all(|interface| interface.name != "lo"));
    assert!(network_interfaces(i32::MAX).unwrap().is_empty());
}
