//! The tool: the calls of a run, and a run that is killed or fails at one of them.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use carrack_testkit::{Run, Store};

use super::kit::LIMIT;

/// Calls after which a crash leaves another state on disk or in the kernel. musl makes folders and links by the older
/// calls. Of the calls that open files, those count that make one.
const WRITES: &str = "open,openat,openat2,write,writev,pwrite64,pwritev,rename,renameat,renameat2,link,linkat,\
    symlink,symlinkat,mkdir,mkdirat,mknod,mknodat,unlink,unlinkat,rmdir,truncate,ftruncate,fallocate,fchmod,\
    fchmodat,fchown,fchownat,utimensat,setxattr,lsetxattr,fsetxattr,fsync,fdatasync,syncfs,copy_file_range,sendfile,\
    splice,mount,umount2,fsopen,fsconfig,fsmount,move_mount,open_tree,mount_setattr";

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its process is killed.
    Kill,
    /// It fails with this error.
    Error(&'static str),
}

/// The n-th of one kind of call that one thread makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub call: String,
    pub number: usize,
}

/// `strace OPTIONS carrack ARGUMENTS` on the store.
fn traced(store: &Store, options: &[String], arguments: &[String]) -> Run {
    let own = store.command();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(options).arg(own.get_program()).args(own.get_args()).args(arguments);
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Run::of(&mut command, LIMIT)
}

/// The points of a whole run, in the order in which they come.
#[track_caller]
pub fn points(store: &Store, arguments: &[String]) -> Vec<Point> {
    let log = store.path().join("trace");
    let options = ["-o", log.to_str().unwrap(), "-e", "signal=none", "-e", &format!("trace={WRITES}")];
    traced(store, &options.map(str::to_owned), arguments).success();
    let mut counts = BTreeMap::new();
    let mut points = Vec::new();
    for line in fs::read_to_string(log).unwrap().lines() {
        let Some((thread, rest)) = line.split_once(char::is_whitespace) else { continue };
        let Some((call, rest)) = rest.trim_start().split_once('(') else { continue };
        if !WRITES.split(',').any(|write| write.trim() == call) {
            continue;
        }
        let number = counts.entry((thread.to_owned(), call.to_owned())).or_insert(0);
        *number += 1;
        if call.starts_with("open") && call != "open_tree" && !rest.contains("O_CREAT") {
            continue;
        }
        let point = Point { call: call.to_owned(), number: *number };
        if !points.contains(&point) {
            points.push(point);
        }
    }
    points
}

/// `count` points, spread over the run, with the first and the last of it; more or all by the environment.
#[track_caller]
pub fn sample(points: &[Point], count: usize) -> Vec<Point> {
    #[allow(clippy::disallowed_methods, reason = "how long a test may take is for who starts it to say")]
    let wanted = std::env::var("CARRACK_CRASH_POINTS").ok();
    let count = match wanted.as_deref() {
        Some("all") => points.len(),
        Some(text) => text.parse().expect("CARRACK_CRASH_POINTS is all or a number"),
        None => count,
    };
    let count = count.min(points.len());
    (0..count).map(|index| points[index * (points.len() - 1) / (count - 1).max(1)].clone()).collect()
}

/// Runs the command with the fault at `point`. Threads share their work anew in each run, so that one of them may not
/// come as far as in the first, and nothing happens.
pub fn run_with(store: &Store, point: &Point, fault: Fault, arguments: &[String]) -> Run {
    let what = match fault {
        Fault::Kill => "signal=KILL".to_owned(),
        Fault::Error(name) => format!("error={name}"),
    };
    let inject = format!("inject={}:{what}:when={}", point.call, point.number);
    let options = ["-o", "/dev/null", "-e", &format!("trace={}", point.call), "-e", &inject];
    traced(store, &options.map(str::to_owned), arguments)
}
