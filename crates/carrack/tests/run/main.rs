//! Containers as users run them: the real binary with real namespaces, cgroups and networks, seen from outside and
//! from inside. Only tests in a network namespace of their own have a bridge.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use carrack_testkit::Store;

#[path = "../it/kit.rs"]
#[allow(dead_code, reason = "each suite uses its own part of the kit")]
mod kit;

mod addresses;
mod commit;
mod copying;
mod crash;
mod devices;
mod events;
mod exec;
mod flags;
mod health;
mod initialize;
mod isolation;
mod journal;
mod lifecycle;
mod limits;
mod listing;
mod log_drivers;
mod monitor_memory;
mod mounts;
mod namespaces;
mod network;
mod pause;
mod privileged;
mod resources;
mod restarts;
mod rootfs;
mod runtimes;
mod safety;
mod secrets;
mod sessions;
mod stats;
mod surroundings;
mod systemd;
mod upkeep;
mod volumes;

/// A script that runs until it is asked to end, and then ends with 7.
const UNTIL_TERM: &str = "trap 'exit 7' TERM; echo ready; sleep 1000 & wait";

/// `carrack run -d --network none FLAGS IMAGE sh -c SCRIPT`; returns the container's ID.
#[track_caller]
fn detached(store: &Store, flags: &[&str], script: &str) -> String {
    let command = [&["run", "--detach", "--network", "none"], flags, &[kit::IMAGE, "sh", "-c", script]];
    store.carrack(command.concat()).line()
}

/// Waits until `fact` holds; panics with `what` when it does not come true.
#[track_caller]
fn eventually(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + kit::LIMIT;
    while !fact() {
        assert!(Instant::now() < deadline, "did not come true: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder of the host with `files`: path and content.
#[track_caller]
fn folder(store: &Store, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = store.path().join(name);
    for (path, content) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("it is below the folder")).expect("a folder can be made");
        fs::write(path, content).expect("a file can be written");
    }
    folder
}

/// One field of `inspect` of a container.
#[track_caller]
fn inspect(store: &Store, container: &str, format: &str) -> String {
    store.carrack(["inspect", "--type", "container", "--format", format, container]).line()
}

/// Waits until the container has printed `ready`.
#[track_caller]
fn await_ready(store: &Store, container: &str) {
    eventually("the container is ready", || {
        store.carrack(["logs", container]).success().stdout.contains("ready")
    });
}

/// The cgroups of a container, in every hierarchy.
fn cgroups(id: &str) -> Vec<PathBuf> {
    let below = |folder: &str| -> Vec<PathBuf> {
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let mut hierarchies = below("/sys/fs/cgroup");
    hierarchies.push("/sys/fs/cgroup".into());
    hierarchies
        .into_iter()
        .map(|folder| folder.join("carrack").join(id))
        .filter(|path| path.exists())
        .collect()
}

/// The content of a file of a container's cgroup, by its name in v1 or in v2.
#[track_caller]
fn cgroup_file(id: &str, names: &[&str]) -> String {
    let folders = cgroups(id);
    let files = folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name)));
    let content = files.into_iter().find_map(|file| fs::read_to_string(file).ok());
    content.unwrap_or_else(|| panic!("{folders:?} have none of {names:?}")).trim().to_owned()
}

/// Panics when something of containers is left in the store, the kernel or the process table.
#[track_caller]
fn assert_no_container_is_left(store: &Store, id: &str) {
    assert_eq!(store.carrack(["ps", "--all", "--quiet"]).line(), "");
    assert_eq!(store.container_ids(), Vec::<String>::new());
    let mut folders =
        ["root/container-names", "run/containers"].map(|folder| store.path().join(folder)).to_vec();
    folders.extend(["active", "staging"].iter().flat_map(|name| kit::snapshot_folders(store, name)));
    for folder in folders {
        let left: Vec<_> = fs::read_dir(&folder).into_iter().flatten().flatten().collect();
        let names: Vec<_> = left.iter().map(fs::DirEntry::file_name).filter(|name| name != ".lock").collect();
        assert!(names.is_empty(), "{} has {names:?}", folder.display());
    }
    assert_eq!(cgroups(id), Vec::<PathBuf>::new());
    eventually("the monitor has ended", || processes_with(id).is_empty());
}

/// The processes with `word` in their arguments.
fn processes_with(word: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let names_it = |pid: &u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(word)
    };
    pids.filter(names_it).collect()
}
