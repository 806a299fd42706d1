//! What containers use, and their processes, against loads that are known.

use crate::kit::{IMAGE, store};
use crate::{await_ready, detached, eventually};

#[test]
fn the_figures_are_those_of_the_load() {
    let store = store();
    let busy = "cp /dev/zero /dev/shm/block 2>/dev/null & sleep 1000";
    detached(&store, &["--name", "idle"], "sleep 1000");
    detached(&store, &["--name", "busy", "-m", "64m", "--shm-size", "20m"], busy);
    detached(&store, &["--name", "loop"], "while :; do :; done");
    let figure = |name: &str, field: &str| {
        store.carrack(["stats", "--no-stream", "--format", &format!("{{{{.{field}}}}}"), name]).line()
    };
    let percent = |text: String| text.trim_end_matches('%').parse::<f64>().unwrap();
    eventually("the loop takes time of a CPU", || percent(figure("loop", "CPUPerc")) > 5.0);
    assert!(percent(figure("idle", "CPUPerc")) < 5.0);
    eventually("the block is counted", || {
        let memory = figure("busy", "MemUsage");
        let used = memory.strip_suffix(" / 64MiB").expect(&memory);
        used.strip_suffix("MiB").is_some_and(|used| (19.0..40.0).contains(&used.parse::<f64>().unwrap()))
    });
    assert_eq!((figure("busy", "NetIO").as_str(), figure("idle", "PIDs").as_str()), ("0B / 0B", "1"));
    let idle = figure("idle", "MemUsage");
    assert!(!idle.starts_with("0B") && idle.ends_with("GiB"), "{idle}");

    let table = store.carrack(["stats", "--no-stream"]).success().stdout;
    let heading = "CONTAINER ID   NAME   CPU %";
    assert!(table.starts_with(heading) && table.lines().count() == 4, "{table}");
    let json = store.carrack(["stats", "--no-stream", "--format", "json", "idle"]).line();
    assert!(json.starts_with("{\"BlockIO\":") && json.contains("\"Name\":\"idle\""), "{json}");
    store.carrack(["create", "--name", "created", "--network", "none", IMAGE]).success();
    assert_eq!(store.carrack(["stats", "--no-stream"]).success().stdout.lines().count(), 4);
    assert_eq!(store.carrack(["stats", "--no-stream", "--all"]).success().stdout.lines().count(), 5);
    assert_eq!(figure("created", "MemUsage"), "0B / 0B");
    store.carrack(["stats", "--no-stream", "absent"]).code(1);
}

#[test]
fn processes_are_seen_from_the_host() {
    let store = store();
    // The image's own ps must not be believed.
    let script = "rm /bin/ps; sleep 777 & echo ready; wait";
    detached(&store, &["--name", "one"], script);
    await_ready(&store, "one");
    let top = store.carrack(["top", "one"]).success().stdout;
    let mut lines = top.lines();
    let heading: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(heading, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    let processes: Vec<_> = lines.collect();
    assert_eq!(processes.len(), 2, "{top}");
    assert!(processes.iter().all(|line| line.starts_with("root ")), "{top}");
    assert!(processes.iter().any(|line| line.ends_with("sleep 777")), "{top}");
    let init = crate::inspect(&store, "one", "{{.State.Pid}}");
    let chosen = store.carrack(["container", "top", "one", "-o", "pid,comm"]).success().stdout;
    assert!(chosen.lines().any(|line| line.split_whitespace().eq([init.as_str(), "sh"])), "{chosen}");
    let podman = store.carrack(["top", "one", "pid", "hpid", "seccomp"]).success().stdout;
    assert!(
        podman.lines().any(|line| line.split_whitespace().eq(["1", init.as_str(), "filter"])),
        "{podman}"
    );
    store.carrack(["top", "one", "--forest"]).code(1);
    store.carrack(["stop", "--time", "0", "one"]).success();
    store.carrack(["top", "one"]).code(1);
}
