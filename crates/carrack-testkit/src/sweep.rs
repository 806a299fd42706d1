//! Taking away what a test left behind: best effort, never a panic, and only what is the test's own by its unique
//! temporary folder or the IDs of its containers.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::run::wait;

/// Runs a program whose result does not matter, for at most `limit`.
pub(crate) fn run_quietly(command: &mut Command, limit: Duration) {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Ok(mut child) = command.spawn() {
        wait(&mut child, Instant::now() + limit);
    }
}

/// Kills the processes that name `folder` in their arguments or live in a cgroup of one of `containers`.
pub(crate) fn kill_processes(folder: &Path, containers: &[String]) {
    let folder = folder.as_os_str().as_encoded_bytes();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw).filter(|pid| *pid != rustix::process::getpid()) else {
            continue;
        };
        // The pidfd comes first: it stays with the process that is looked at, whatever becomes of the number.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let cgroups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let names_folder = arguments.windows(folder.len()).any(|window| window == folder);
        if names_folder || containers.iter().any(|id| cgroups.contains(id.as_str())) {
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    }
}

/// Unmounts what is mounted below `folder`, the latest first.
pub(crate) fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    for point in points.filter(|point| point.starts_with(folder)) {
        let _ = unmount(point, UnmountFlags::DETACH);
    }
}

/// Removes the cgroups that are named after `containers`, in every hierarchy.
pub(crate) fn remove_cgroups(containers: &[String]) {
    if containers.is_empty() {
        return;
    }
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return };
    let is_cgroup = |line: &&str| line.contains(" - cgroup ") || line.contains(" - cgroup2 ");
    for mount in mounts.lines().filter(is_cgroup).filter_map(|line| line.split(' ').nth(4)) {
        remove_named(Path::new(mount), containers, 4);
    }
}

fn remove_named(folder: &Path, containers: &[String], depth: usize) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) || depth == 0 {
            continue;
        }
        remove_named(&entry.path(), containers, depth - 1);
        let name = entry.file_name();
        if containers.iter().any(|id| name.to_string_lossy().contains(id.as_str())) {
            remove_tree(&entry.path());
        }
    }
}

/// A cgroup's files cannot be removed, its folders can when they have none below.
fn remove_tree(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    while fs::remove_dir(cgroup).is_err() && cgroup.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}
