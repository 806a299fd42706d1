//! Faults in the middle: whenever a command dies or the disk fails it, the store is whole, the same command succeeds
//! afterwards, nothing complete is fetched or sent again, and no file, mount, cgroup or process stays.
//!
//! `strace` does the killing and the failing: a first run under it lists the calls that change something, then a
//! sample of them, spread over the whole run, is each killed at, or made to fail. `CARRACK_CRASH_POINTS=all` takes
//! every call instead (it takes long), a number that many.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use carrack_testkit::{ImageFixture, Store};

#[path = "../it/kit.rs"]
#[allow(dead_code, reason = "each suite uses its own part of the kit")]
mod kit;

mod builds;
mod full_disk;
mod operations;
mod storm;
mod strace;
mod transfers;

use kit::{LIMIT, busybox, files_below};

/// The folders of every cgroup whose name is one of `ids`.
fn cgroups(ids: &BTreeSet<String>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    for mount in
        mounts.lines().filter(|line| line.contains(" cgroup")).filter_map(|line| line.split(' ').nth(1))
    {
        let entries = fs::read_dir(Path::new(mount).join("carrack")).into_iter().flatten().flatten();
        found.extend(
            entries
                .filter(|entry| ids.contains(&*entry.file_name().to_string_lossy()))
                .map(|entry| entry.path()),
        );
    }
    found
}

/// The names in a folder; an absent one has none.
fn names_in(folder: PathBuf) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// What the killed command was running.
fn sandboxes(store: &Store) -> BTreeSet<String> {
    let steps = names_in(store.runroot().join("steps"));
    steps.into_iter().chain(store.container_ids()).collect()
}

/// Waits until `fact` holds; panics with `what` when it does not come true.
#[track_caller]
fn eventually(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT / 4;
    while !fact() {
        assert!(Instant::now() < deadline, "did not come true: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// No process of the store, no mount and no cgroup.
#[track_caller]
fn assert_nothing_runs(store: &Store, ids: &BTreeSet<String>) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(store.path().to_str().unwrap()), "{mounts}");
    eventually("the cgroups of what was killed are gone", || cgroups(ids).is_empty());
}

/// Nothing is wrong with the store; leftovers are not wrong.
#[track_caller]
fn assert_whole(store: &Store, when: &str) {
    let run = store.carrack(["system", "check"]);
    assert!(run.code == 0 && run.stdout.contains("Problems: 0"), "{when}: {}{}", run.stdout, run.stderr);
}

/// How many files the store has beside locks, and beside the log of what names meant, which grows with each repetition.
fn count_files(store: &Store) -> usize {
    let is_log = |path: &Path| path.starts_with(store.root().join("images/log"));
    let files = files_below(&store.root());
    files.iter().filter(|path| !path.to_string_lossy().ends_with("lock") && !is_log(path)).count()
}

/// An image that prints `12`.
fn image() -> ImageFixture {
    busybox().layer("/one \"1\"").layer("/two \"2\"\n/d/\n/d/a \"a\"")
}

/// The image `name` is [`image`] or was made of it.
#[track_caller]
fn assert_runs(store: &Store, name: &str, when: &str) {
    let run = store.carrack(["run", "--rm", "--network", "none", name, "cat", "/one", "/two"]);
    assert!(run.code == 0 && run.stdout == "12", "{when}: {run:?}");
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
