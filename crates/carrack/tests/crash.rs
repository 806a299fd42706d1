//! SIGKILL in the middle: whenever `pull` or `build` dies, the same command succeeds afterwards, nothing complete is
//! fetched again, and no mount, cgroup or process stays.
//!
//! `strace` kills: a first run under it lists the calls that change something, then a sample of them, spread over the
//! whole run, is each the last that a run makes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use carrack_testkit::{ImageFixture, Registry, Run, Store};
use rustix::process::{Pid, Signal, kill_process};

#[path = "it/kit.rs"]
#[allow(dead_code, reason = "each suite uses its own part of the kit")]
mod kit;

use kit::{CARRACK, IMAGE, LIMIT, busybox, empty_store, store};

/// Calls after which a crash leaves another state on disk. musl makes folders and links by the older calls.
const WRITES: &str = "rename,renameat,renameat2,link,linkat,symlink,symlinkat,mkdir,mkdirat,unlink,unlinkat,rmdir,fsync,fdatasync,syncfs";
/// How many points of a command are tried.
const POINTS: usize = 12;

/// The n-th of one kind of call that one thread makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    call: String,
    number: usize,
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
fn points(store: &Store, arguments: &[String]) -> Vec<Point> {
    let log = store.path().join("trace");
    let options = ["-o", log.to_str().unwrap(), "-e", "signal=none", "-e", &format!("trace={WRITES}")];
    traced(store, &options.map(str::to_owned), arguments).success();
    let mut counts = BTreeMap::new();
    let mut points = Vec::new();
    for line in fs::read_to_string(log).unwrap().lines() {
        let Some((thread, rest)) = line.split_once(char::is_whitespace) else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        if !WRITES.split(',').any(|write| write == call) {
            continue;
        }
        let number = counts.entry((thread.to_owned(), call.to_owned())).or_insert(0);
        *number += 1;
        let point = Point { call: call.to_owned(), number: *number };
        if !points.contains(&point) {
            points.push(point);
        }
    }
    points
}

/// Some points, spread over the run, with the first and the last of it.
fn sample(points: &[Point]) -> Vec<Point> {
    assert!(points.len() >= POINTS, "the run changes too little: {points:?}");
    (0..POINTS).map(|index| points[index * (points.len() - 1) / (POINTS - 1)].clone()).collect()
}

/// Runs the command and kills the process that comes to `point`; tells whether one did.
fn kill_at(store: &Store, point: &Point, arguments: &[String]) -> bool {
    let inject = format!("inject={}:signal=KILL:when={}", point.call, point.number);
    let options = ["-o", "/dev/null", "-e", &format!("trace={}", point.call), "-e", &inject];
    traced(store, &options.map(str::to_owned), arguments).code != 0
}

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

/// After a crash: the command succeeds, and its result, `name`, is listed and runs.
#[track_caller]
fn assert_recovers(store: &Store, arguments: &[String], name: &str, point: &Point) {
    let mut ids = sandboxes(store);
    let run = store.carrack(arguments);
    assert_eq!(run.code, 0, "after {point:?}: {}", run.stderr);
    let listed = store.carrack(["images", "--quiet", "--no-trunc"]).line();
    assert!(listed.contains(&kit::id(store, name)), "after {point:?}: {listed}");
    let output = store.carrack(["run", "--rm", "--network", "none", name, "cat", "/one", "/two"]);
    assert_eq!(output.line(), "12", "after {point:?}");
    ids.extend(sandboxes(store));
    assert_nothing_runs(store, &ids);
}

fn image() -> ImageFixture {
    busybox().layer("/one \"1\"").layer("/two \"2\"\n/d/\n/d/a \"a\"")
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Tries the points of a command, each in a store of its own that `prepare` makes.
#[track_caller]
fn assert_survives(prepare: impl Fn() -> Store, arguments: &dyn Fn(&Store) -> Vec<String>, name: &str) {
    let reference = prepare();
    let points = sample(&points(&reference, &arguments(&reference)));
    let mut killed = 0;
    for point in &points {
        let store = prepare();
        killed += usize::from(kill_at(&store, point, &arguments(&store)));
        assert_recovers(&store, &arguments(&store), name, point);
    }
    // Threads share their work anew in each run, so that one of them may not come as far as in the first.
    assert!(killed >= POINTS / 2, "only {killed} of {points:?} were reached");
}

#[test]
fn a_killed_pull_from_a_layout() {
    let layout = tempfile::tempdir().unwrap();
    image().write_layout(layout.path(), "app");
    let arguments = words(&["pull", "--quiet", &format!("oci:{}:app", layout.path().display())]);
    let id = image().id();
    assert_survives(empty_store, &|_| arguments.clone(), id.as_str());
}

/// Passes connections on to a registry and keeps the first line of each request.
struct Proxy {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(registry: &Registry) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (target, log) = (registry.address().to_owned(), Arc::clone(&requests));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (target, log) = (target.clone(), Arc::clone(&log));
                thread::spawn(move || pass_on(client, &target, &log));
            }
        });
        Self { address, requests }
    }

    fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

/// The requests of a pull have no bodies, so every line of them belongs to a head.
fn pass_on(client: TcpStream, target: &str, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(target)?;
    let (mut answers, mut back) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let mut reader = BufReader::new(client);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if line.starts_with(b"GET ") {
            log.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
        }
        server.write_all(&line)?;
        line.clear();
    }
    server.shutdown(Shutdown::Both)
}

/// The hexadecimal parts of the digests of the store's blobs.
fn complete_blobs(store: &Store) -> BTreeSet<String> {
    names_in(store.root().join("content/blobs/sha256"))
}

#[test]
fn a_killed_pull_from_a_registry_fetches_nothing_complete_again() {
    let registry = Registry::start(CARRACK);
    let publisher = empty_store();
    publisher.load(&image(), IMAGE);
    publisher.carrack(["push", IMAGE, &format!("{}/app", registry.address())]).success();
    let proxy = Proxy::start(&registry);
    let name = format!("{}/app:latest", proxy.address);
    let arguments = words(&["pull", "--quiet", &name]);
    let layers: BTreeSet<_> =
        image().layers().iter().map(|layer| layer.descriptor.digest.hex().to_owned()).collect();

    let reference = empty_store();
    let points = sample(&points(&reference, &arguments));
    let asked = proxy.take_requests();
    let fetches = |requests: &[String], hex: &str| requests.iter().filter(|line| line.contains(hex)).count();
    assert!(layers.iter().all(|hex| fetches(&asked, hex) == 1), "{asked:?}");
    let (mut killed, mut spared) = (0, 0);
    for point in &points {
        let store = empty_store();
        killed += usize::from(kill_at(&store, point, &arguments));
        let complete: BTreeSet<_> = complete_blobs(&store).intersection(&layers).cloned().collect();
        proxy.take_requests();
        assert_recovers(&store, &arguments, &name, point);
        let asked = proxy.take_requests();
        for hex in &complete {
            assert_eq!(fetches(&asked, hex), 0, "after {point:?}: {asked:?}");
        }
        for hex in layers.difference(&complete) {
            // None when all bytes had come, and only the name was missing.
            assert!(fetches(&asked, hex) <= 1, "after {point:?}: {asked:?}");
        }
        spared += complete.len();
    }
    assert!(killed >= POINTS / 2, "only {killed} of {points:?} were reached");
    assert!(spared > 0, "no kill left a complete layer: {points:?}");
}

/// A build context of a Dockerfile and the file `one`.
fn context(store: &Store, dockerfile: &str) -> PathBuf {
    let folder = store.path().join("context");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    fs::write(folder.join("one"), "1").unwrap();
    folder
}

#[test]
fn a_killed_build() {
    let dockerfile =
        "FROM localhost/busybox:1\nCOPY one /one\nRUN printf 2 > /two && rm /bin/vi\nRUN echo 3 > /three\n";
    let prepare = || {
        let store = store();
        context(&store, dockerfile);
        store
    };
    let arguments = |store: &Store| {
        let context = store.path().join("context");
        words(&["build", "--quiet", "--network", "none", "--tag", "app", context.to_str().unwrap()])
    };
    assert_survives(prepare, &arguments, "app");
}

/// A build whose `RUN` has begun and does not end, and the sandbox that it runs in.
fn endless_build(store: &Store) -> (Child, BTreeSet<String>) {
    let context = context(store, "FROM localhost/busybox:1\nRUN echo begun && sleep 1000\n");
    let mut command = store.command();
    command.args(["build", "--network", "none", context.to_str().unwrap()]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line == "begun")));
    // Warnings about the end have a reader to the end.
    thread::spawn(move || lines.count());
    let ids = sandboxes(store);
    assert!(!ids.is_empty() && !cgroups(&ids).is_empty(), "{ids:?}");
    (child, ids)
}

/// The command of a `RUN` does not outlive the build that wanted its result.
#[test]
fn a_build_that_is_killed_takes_its_command_along() {
    let store = store();
    let (mut child, ids) = endless_build(&store);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_nothing_runs(&store, &ids);
    eventually("the files of the step are gone", || sandboxes(&store).is_empty());
}

/// A stage that is killed cannot take its sandbox down; the next build does.
#[test]
fn what_a_killed_stage_leaves_goes_with_the_next_build() {
    let store = store();
    let (mut child, ids) = endless_build(&store);
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let stage = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(stage).unwrap(), Signal::KILL).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let folder = store.path().join("context");
    fs::write(folder.join("Dockerfile"), "FROM localhost/busybox:1\nENV A=1\n").unwrap();
    store.carrack(["build", "--quiet", folder.to_str().unwrap()]).success();
    assert_nothing_runs(&store, &ids);
    assert!(sandboxes(&store).is_empty());
}
