//! Sixteen processes at once on one store. `CARRACK_STORM_SECONDS` says for how long.

use std::thread;
use std::time::{Duration, Instant};

use carrack_testkit::{FixtureLayer, ImageFixture, LayerFormat, Store, TarWriter};

use super::kit::{busybox, empty_store};
use super::{assert_nothing_runs, assert_whole, sandboxes, words};

const WORKERS: u64 = 16;
const DEFAULT_SECONDS: u64 = 8;

/// What may be said to somebody who is not alone: that a thing is used, or not there (any more).
const ALLOWED: [&str; 4] = ["in use", "no such image", "no such container", "is running"];

fn seconds() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "how long a test may take is for who starts it to say")]
    let wanted = std::env::var("CARRACK_STORM_SECONDS").ok();
    wanted.map_or(DEFAULT_SECONDS, |text| text.parse().expect("CARRACK_STORM_SECONDS is a number"))
}

/// The next command of a worker: what it does depends on nothing but `random`.
fn command(store: &Store, random: u64) -> Vec<String> {
    let number = random / 16 % 3;
    let layout = format!("oci:{}:app", store.path().join(format!("layout-{number}")).display());
    let name = format!("localhost/storm-{}:1", random / 64 % 3);
    let ids = [0, 1, 2].map(|number| image(number).id().to_string());
    let id = ids[number as usize].as_str();
    match random % 16 {
        0..4 => words(&["pull", "--quiet", &layout]),
        4..7 => {
            let flags = ["run", "--rm", "--pull", "never", "--network", "none", id];
            words(&[&flags[..], &["cat", "/common", "/own", "/shared"]].concat())
        }
        7 => words(&["create", "--pull", "never", "--network", "none", id, "true"]),
        8..10 => words(&["tag", id, &name]),
        10 => words(&["untag", &name]),
        11 => words(&["rmi", &name]),
        12 => words(&["rmi", "--force", id]),
        13 => words(&["system", "prune", "--force"]),
        14 => words(&["images", "--quiet"]),
        _ => words(&[
            "push",
            "--quiet",
            id,
            &format!("oci-archive:{}", store.path().join(format!("out-{random}.tar")).display()),
        ]),
    }
}

/// Beside small files one large one, which the images share although no layer with it is the same.
fn image(number: u64) -> ImageFixture {
    let mut tar = TarWriter::new();
    let tar = tar.file("own", number.to_string().as_bytes()).file("common", common().as_bytes()).finish();
    busybox().layer("/shared \"s\"").push(FixtureLayer::of_tar(&tar, LayerFormat::Gzip))
}

fn common() -> String {
    (0..2000).map(|line| format!("line {line}\n")).collect()
}

fn work(store: &Store, worker: u64, deadline: Instant) -> (usize, Vec<String>) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(worker + 1);
    let (mut count, mut wrong) = (0, Vec::new());
    while Instant::now() < deadline {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let arguments = command(store, state >> 8);
        let run = store.carrack(&arguments);
        count += 1;
        let is_allowed = ALLOWED.iter().any(|text| run.stderr.contains(text));
        if run.code != 0 && !is_allowed {
            wrong.push(format!("{arguments:?}: {}: {}{}", run.code, run.stdout, run.stderr));
        }
        let is_right = |output: &str| output.ends_with('s') && output.starts_with(&common());
        if run.code == 0 && arguments[0] == "run" && !is_right(&run.stdout) {
            wrong.push(format!("{arguments:?}: {:?}", run.stdout));
        }
    }
    (count, wrong)
}

#[test]
fn sixteen_processes_do_not_hurt_each_other() {
    let store = empty_store();
    for number in 0..3 {
        image(number).write_layout(&store.path().join(format!("layout-{number}")), "app");
    }
    let deadline = Instant::now() + Duration::from_secs(seconds());
    let results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                scope.spawn({
                    let store = &store;
                    move || work(store, worker, deadline)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let wrong: Vec<_> = results.iter().flat_map(|(_, wrong)| wrong).collect();
    let count: usize = results.iter().map(|(count, _)| count).sum();
    assert!(wrong.is_empty(), "{} of {count}: {wrong:#?}", wrong.len());
    assert!(count > WORKERS as usize, "only {count} commands");
    assert_whole(&store, "after the storm");
    for number in 0..3 {
        let layout = format!("oci:{}:app", store.path().join(format!("layout-{number}")).display());
        store.carrack(["pull", "--quiet", &layout]).success();
        let id = image(number).id();
        let output =
            store.carrack(["run", "--rm", "--network", "none", id.as_str(), "cat", "/own", "/shared"]);
        assert_eq!(output.line(), format!("{number}s"));
    }
    let ids = sandboxes(&store);
    store.carrack(["rm", "--force", "--all"]).success();
    store.carrack(["system", "prune", "--all", "--force"]).success();
    assert_nothing_runs(&store, &ids);
    super::kit::assert_nothing_is_left(&store);
}
