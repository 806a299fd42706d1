//! The table: what changes the store, killed and failed at its calls.

use carrack_testkit::{FixtureLayer, ImageFixture, LayerFormat, Store, TarWriter};

use super::kit::{IMAGE, busybox, empty_store, id, store};
use super::strace::{Fault, Point, points, run_with, sample};
use super::transfers::noise;
use super::{assert_nothing_runs, assert_runs, assert_whole, count_files, image, sandboxes, words};

/// How many calls are killed at, and how many fail, when the environment does not say.
const KILLS: usize = 5;
const ERRORS: usize = 2;

const APP: &str = "localhost/app:1";

/// A command that changes a store.
struct Operation {
    /// Makes a store that has [`IMAGE`] and what the command works on.
    prepare: fn() -> Store,
    arguments: fn(&Store) -> Vec<String>,
    /// Checks what must hold once the command has succeeded.
    done: fn(&Store),
    /// What the command may fail with when it is given once more after it came to its end.
    repeated: Option<&'static str>,
}

const PULL: Operation = Operation {
    prepare: || {
        let store = store();
        image().write_layout(&store.path().join("layout"), "app");
        store
    },
    arguments: |store| {
        words(&["pull", "--quiet", &format!("oci:{}:app", store.path().join("layout").display())])
    },
    done: |store| assert_runs(store, image().id().as_str(), "the pulled image"),
    repeated: None,
};

const IMPORT: Operation = Operation {
    prepare: || {
        let store = store();
        std::fs::write(store.path().join("tree.tar"), ImageFixture::tar("/one \"1\"\n/d/\n/d/two \"2\""))
            .unwrap();
        store
    },
    arguments: |store| words(&["import", "--quiet", store.path().join("tree.tar").to_str().unwrap(), APP]),
    done: |store| assert!(id(store, APP).starts_with("sha256:")),
    repeated: None,
};

const LOAD: Operation = Operation {
    prepare: || {
        let other = empty_store();
        other.load(&image(), APP);
        let store = store();
        let archive = store.path().join("app.tar");
        other.carrack(["save", "--output", archive.to_str().unwrap(), APP]).success();
        store
    },
    arguments: |store| words(&["load", "--quiet", "--input", store.path().join("app.tar").to_str().unwrap()]),
    done: |store| assert_runs(store, APP, "the loaded image"),
    repeated: None,
};

/// The date makes equal commits equal images, so that a prune leaves as much of one as of two.
const COMMIT: Operation = Operation {
    prepare: || {
        let store = store();
        let script = "printf 1 > /one; printf 2 > /two; rm /bin/vi";
        store.carrack(["run", "--network", "none", "--name", "changed", IMAGE, "sh", "-c", script]).success();
        store
    },
    arguments: |_| words(&["commit", "--timestamp", "1600000000", "changed", APP]),
    done: |store| assert_runs(store, APP, "the committed image"),
    repeated: None,
};

/// What a user has made is kept by nothing but the user's own wish, also when its commit is cut short.
const COMMIT_SNAPSHOT: Operation = Operation {
    prepare: || {
        let store = store();
        store.carrack(["snapshot", "prepare", "work", IMAGE]).success();
        let [file] = &["erofs", "overlay", "vfs"]
            .map(|driver| store.root().join("snapshots").join(driver).join("active/user-work/fs"))
            .into_iter()
            .filter(|folder| folder.is_dir())
            .map(|folder| folder.join("one"))
            .collect::<Vec<_>>()[..]
        else {
            panic!("an active snapshot has one folder")
        };
        std::fs::write(file, "1").unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
        let file = std::fs::File::options().write(true).open(file).unwrap();
        file.set_modified(time).unwrap();
        store
    },
    arguments: |_| words(&["snapshot", "commit", "work"]),
    done: |store| {
        store.carrack(["builder", "prune"]).success();
        let kept = super::names_in(store.root().join("snapshots/kept"));
        let kept: Vec<_> = kept.iter().map(|name| name.replacen('-', ":", 1)).collect();
        let [id] = &kept[..] else { panic!("{kept:?}") };
        store.carrack(["snapshot", "view", "look", id]).success();
        store.carrack(["snapshot", "rm", "look"]).success();
    },
    repeated: Some("no active snapshot"),
};

/// Nothing in the store changes, but the archive is whole or not there.
const SAVE: Operation = Operation {
    prepare: store,
    arguments: |store| words(&["save", "--output", store.path().join("saved.tar").to_str().unwrap(), IMAGE]),
    done: |store| {
        let other = empty_store();
        let archive = store.path().join("saved.tar");
        other.carrack(["load", "--quiet", "--input", archive.to_str().unwrap()]).success();
        assert_eq!(id(&other, IMAGE), id(store, IMAGE));
    },
    repeated: None,
};

const TAG: Operation = Operation {
    prepare: store,
    arguments: |_| words(&["tag", IMAGE, APP]),
    done: |store| assert_eq!(id(store, APP), id(store, IMAGE)),
    repeated: None,
};

const REMOVE: Operation = Operation {
    prepare: || {
        let store = store();
        store.load(&image(), APP);
        store
    },
    arguments: |_| words(&["rmi", APP]),
    done: |store| drop(store.carrack(["inspect", "--type", "image", APP]).code(1)),
    repeated: Some("no such image"),
};

/// A version of an app: one large file is in all versions, another one in none else.
fn version(number: u64) -> ImageFixture {
    let (common, own) = (noise(300_000, 99), noise(50_000, number));
    let tar = TarWriter::new().file("common", &common).file("own", &own).finish();
    busybox().push(FixtureLayer::of_tar(&tar, LayerFormat::Gzip))
}

#[track_caller]
fn assert_version(store: &Store, number: u64) {
    let layout = store.path().join(format!("layout{number}"));
    let (image, folder) = (version(number), store.path().join("unpacked"));
    let _ = std::fs::remove_dir_all(&folder);
    if !layout.exists() {
        image.write_layout(&layout, "app");
    }
    let source = format!("oci:{}:app", layout.display());
    store.carrack(["unpack", &source, folder.to_str().unwrap()]).success();
    let expected = super::kit::host("cat", [folder.join("common"), folder.join("own")]);
    let run =
        store.carrack(["run", "--rm", "--network", "none", image.id().as_str(), "cat", "/common", "/own"]);
    assert!(run.code == 0 && run.stdout == expected.stdout, "version {number}: {}", run.stderr);
}

const PULL_NEXT_VERSION: Operation = Operation {
    prepare: || {
        let store = store();
        store.load(&version(1), "localhost/app:old");
        version(2).write_layout(&store.path().join("layout"), "app");
        store
    },
    arguments: PULL.arguments,
    done: |store| {
        assert_eq!(super::names_in(store.root().join("content/composed")).len(), 1);
        assert_version(store, 1);
        assert_version(store, 2);
    },
    repeated: None,
};

const REMOVE_LENDER: Operation = Operation {
    prepare: || {
        let store = store();
        store.load(&version(1), APP);
        store.load(&version(2), "localhost/app:new");
        store
    },
    arguments: REMOVE.arguments,
    done: |store| {
        // On a full disk the lender stays whole till the next collection.
        store.carrack(["system", "prune", "--force"]).success();
        assert_eq!(super::names_in(store.root().join("content/lent")).len(), 1);
        assert_version(store, 2);
        store.carrack(["inspect", "--type", "image", APP]).code(1);
    },
    repeated: REMOVE.repeated,
};

const PRUNE: Operation = Operation {
    prepare: || {
        let store = store();
        store.load(&image(), APP);
        store.carrack(["untag", APP]).success();
        store.carrack(["create", "--network", "none", IMAGE, "true"]).success();
        store
    },
    arguments: |_| words(&["system", "prune", "--force"]),
    done: |store| {
        assert_eq!(store.carrack(["images", "--quiet"]).line().lines().count(), 1);
        assert_eq!(store.carrack(["ps", "--all", "--quiet"]).line(), "");
    },
    repeated: None,
};

/// The container is removed by whoever is left of command and monitor, or by the next command.
const RUN: Operation = Operation {
    prepare: store,
    arguments: |_| words(&["run", "--rm", "--network", "none", "--log-opt", "max-file=2", IMAGE, "true"]),
    done: |store| {
        super::eventually("no container runs", || store.carrack(["ps", "--quiet"]).line().is_empty());
    },
    repeated: None,
};

/// A store with a running container that its policy starts again.
fn running() -> Store {
    let store = store();
    let script = "trap 'exit 7' TERM; sleep 1000 & wait";
    let flags = ["run", "-d", "--network", "none", "--name", "one", "--restart", "always", IMAGE];
    store.carrack(flags.into_iter().chain(["sh", "-c", script])).success();
    store
}

const STOP: Operation = Operation {
    prepare: running,
    arguments: |_| words(&["stop", "--time", "5", "one"]),
    done: |store| {
        let status = ["inspect", "--format", "{{.State.Status}} {{.State.Restarting}}", "one"];
        assert_eq!(store.carrack(status).line(), "exited false");
    },
    repeated: None,
};

const FORCED_RM: Operation = Operation {
    prepare: running,
    arguments: |_| words(&["rm", "--force", "one"]),
    done: |store| {
        assert_eq!(store.carrack(["ps", "--all", "--quiet"]).line(), "");
        // Killed after it took the name back, it leaves a folder of nobody.
        store.carrack(["system", "prune", "--force"]).success();
        assert_eq!(store.container_ids(), Vec::<String>::new());
    },
    repeated: Some("no such container"),
};

/// After a fault: nothing is wrong, old data are as they were, the command succeeds, and prune leaves what it would
/// leave without the fault.
#[track_caller]
fn assert_recovers(operation: &Operation, store: &Store, expected_files: usize, when: &str) {
    let mut ids = sandboxes(store);
    assert_whole(store, when);
    let old = store.carrack(["inspect", "--type", "image", IMAGE]);
    assert_eq!(old.code, 0, "{when}: {}", old.stderr);
    let run = store.carrack((operation.arguments)(store));
    let is_repeated = operation.repeated.is_some_and(|text| run.stderr.contains(text));
    assert!(run.code == 0 || is_repeated, "{when}: {}", run.stderr);
    (operation.done)(store);
    ids.extend(sandboxes(store));
    assert_nothing_runs(store, &ids);
    store.carrack(["system", "prune", "--force"]).success();
    let files = count_files(store);
    assert!(
        files <= expected_files,
        "{when}: {files} > {expected_files}: {:#?}",
        super::files_below(&store.root())
    );
    assert_whole(store, when);
}

/// All points of an operation, and how many files a store has after it and a prune.
fn explore(operation: &Operation) -> (Vec<Point>, usize) {
    let store = (operation.prepare)();
    let points = points(&store, &(operation.arguments)(&store));
    (operation.done)(&store);
    store.carrack(["system", "prune", "--force"]).success();
    (points, count_files(&store))
}

#[allow(clippy::print_stdout, reason = "who explores all points wants to know how many there were")]
fn tell(text: &str) {
    println!("{text}");
}

fn survives_kills(operation: &Operation) {
    let (points, expected_files) = explore(operation);
    let points = sample(&points, KILLS);
    let mut killed = 0;
    for point in &points {
        let store = (operation.prepare)();
        let run = run_with(&store, point, Fault::Kill, &(operation.arguments)(&store));
        killed += usize::from(run.code != 0);
        assert_recovers(operation, &store, expected_files, &format!("killed at {point:?}"));
    }
    tell(&format!("killed at {killed} of {} points", points.len()));
    assert!(killed >= points.len() / 2, "only {killed} of {points:?} were reached");
}

/// An error that is no failure of the command (the use of an image that cannot be noted, say) is as good as none.
fn survives_errors(operation: &Operation) {
    let (points, expected_files) = explore(operation);
    for (name, text) in [("ENOSPC", "No space left on device"), ("EIO", "I/O error")] {
        let sample = sample(&points, ERRORS);
        tell(&format!("{name} at {} points", sample.len()));
        for point in &sample {
            let store = (operation.prepare)();
            let run = run_with(&store, point, Fault::Error(name), &(operation.arguments)(&store));
            let when = format!("{name} of {point:?}");
            assert!(!run.stderr.contains("panicked"), "{when}: {}", run.stderr);
            match run.code {
                0 => (operation.done)(&store),
                // Each thread's n-th call fails, and that of the main one can be the message.
                _ if point.call.starts_with("write") && run.stderr.is_empty() => {}
                _ => assert!(run.stderr.contains("error: ") && run.stderr.contains(text), "{when}: {run:?}"),
            }
            assert_recovers(operation, &store, expected_files, &when);
        }
    }
}

#[test]
fn a_killed_pull() {
    survives_kills(&PULL);
}

#[test]
fn a_killed_pull_of_the_next_version() {
    survives_kills(&PULL_NEXT_VERSION);
}

#[test]
fn a_pull_of_the_next_version_that_the_disk_fails() {
    survives_errors(&PULL_NEXT_VERSION);
}

#[test]
fn a_killed_rmi_of_a_version_that_lends() {
    survives_kills(&REMOVE_LENDER);
}

#[test]
fn an_rmi_of_a_version_that_lends_that_the_disk_fails() {
    survives_errors(&REMOVE_LENDER);
}

#[test]
fn a_killed_import() {
    survives_kills(&IMPORT);
}

#[test]
fn a_killed_load() {
    survives_kills(&LOAD);
}

#[test]
fn a_killed_commit() {
    survives_kills(&COMMIT);
}

#[test]
fn a_killed_commit_of_a_snapshot() {
    survives_kills(&COMMIT_SNAPSHOT);
}

#[test]
fn a_killed_save() {
    survives_kills(&SAVE);
}

#[test]
fn a_killed_tag() {
    survives_kills(&TAG);
}

#[test]
fn a_killed_rmi() {
    survives_kills(&REMOVE);
}

#[test]
fn a_killed_prune() {
    survives_kills(&PRUNE);
}

#[test]
fn a_killed_run() {
    survives_kills(&RUN);
}

#[test]
fn a_killed_stop() {
    survives_kills(&STOP);
}

#[test]
fn a_killed_rm() {
    survives_kills(&FORCED_RM);
}

#[test]
fn a_pull_that_the_disk_fails() {
    survives_errors(&PULL);
}

#[test]
fn an_import_that_the_disk_fails() {
    survives_errors(&IMPORT);
}

#[test]
fn a_load_that_the_disk_fails() {
    survives_errors(&LOAD);
}

#[test]
fn a_commit_that_the_disk_fails() {
    survives_errors(&COMMIT);
}

#[test]
fn a_commit_of_a_snapshot_that_the_disk_fails() {
    survives_errors(&COMMIT_SNAPSHOT);
}

#[test]
fn a_save_that_the_disk_fails() {
    survives_errors(&SAVE);
}

#[test]
fn a_tag_that_the_disk_fails() {
    survives_errors(&TAG);
}

#[test]
fn an_rmi_that_the_disk_fails() {
    survives_errors(&REMOVE);
}

#[test]
fn a_prune_that_the_disk_fails() {
    survives_errors(&PRUNE);
}
