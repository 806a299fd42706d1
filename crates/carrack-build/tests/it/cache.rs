//! What makes a step run again, and what does not.

use std::fs;
use std::os::unix::fs::chown;
use std::time::{Duration, UNIX_EPOCH};

use carrack_build::{Context, StatCache};

use crate::kit::{Build, Store};

/// Which of the steps were carried out, by number.
fn made(build: &Build, store: &mut Store) -> Vec<usize> {
    let steps = build.run(store).unwrap().steps;
    let made = steps.iter().enumerate().filter(|(_, step)| !step.ends_with(" CACHED"));
    made.map(|(index, _)| index + 1).collect()
}

const FILE: &str = "FROM scratch\nCOPY a b /in/\nRUN cat in/a > out\nWORKDIR /w\n";

fn context() -> Build {
    Build::new(FILE).file("a", "a").file("b", "b")
}

#[test]
fn nothing_changed_nothing_is_made() {
    let (mut store, build) = (Store::default(), context());
    let first = build.run(&mut store).unwrap();
    assert_eq!(made(&build, &mut store), [1]);
    let second = build.run(&mut store).unwrap();
    assert_eq!(first.built.config, second.built.config);
    assert_eq!(first.built.layers, second.built.layers);
}

#[test]
fn times_and_owners_of_the_context_do_not_count() {
    let (mut store, build) = (Store::default(), context());
    build.run(&mut store).unwrap();
    fs::File::open(build.path("a")).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(5)).unwrap();
    chown(build.path("a"), Some(1234), Some(1234)).unwrap();
    assert_eq!(made(&build, &mut store), [1]);
}

#[test]
fn content_and_mode_count() {
    let (mut store, build) = (Store::default(), context());
    build.run(&mut store).unwrap();
    let build = build.file("b", "other");
    assert_eq!(made(&build, &mut store), [1, 2, 3, 4]);
    let build = build.mode("a", 0o600);
    assert_eq!(made(&build, &mut store), [1, 2, 3, 4]);
}

#[test]
fn metadata_above_does_not_count_but_the_environment_does() {
    let mut store = Store::default();
    let build = context();
    build.run(&mut store).unwrap();
    let build = build.dockerfile(&FILE.replace("RUN", "LABEL x=y\nEXPOSE 80\nRUN"));
    assert_eq!(made(&build, &mut store), [1, 3, 4]);
    let build = build.dockerfile(&FILE.replace("RUN", "ENV X=y\nRUN"));
    assert_eq!(made(&build, &mut store), [1, 3, 4]);
    let again = build.dockerfile(&FILE.replace("RUN", "USER 0\nRUN"));
    assert_eq!(made(&again, &mut store), [1, 3, 4, 5], "RUN by another user, and WORKDIR owned by it");
}

#[test]
fn a_step_that_gives_the_same_again_keeps_those_below() {
    let mut store = Store::default();
    let file = "FROM scratch\nARG A=1\nRUN echo same > out\nRUN echo more > more\n";
    Build::new(file).run(&mut store).unwrap();
    let report = Build::new(file).arg("A", "2").run(&mut store).unwrap();
    assert_eq!(
        report.steps[2..].iter().filter(|step| step.ends_with("CACHED")).count(),
        0,
        "A is in both environments"
    );
    let file = file.replace("ARG A=1\nRUN echo same", "RUN   echo  same");
    let report = Build::new(&file).run(&mut store).unwrap();
    assert_eq!(made(&Build::new(&file), &mut store), [1], "{:?}", report.steps);
}

#[test]
fn arguments_count_where_they_are_declared() {
    let mut store = Store::default();
    let file = "FROM scratch\nRUN echo 1 > a\nARG A\nRUN echo 2 > b\n";
    let made_with =
        |store: &mut Store, name: &str, value: &str| made(&Build::new(file).arg(name, value), store);
    assert_eq!(made_with(&mut store, "A", "1"), [1, 2, 3, 4]);
    assert_eq!(made_with(&mut store, "A", "2"), [1, 3, 4]);
    assert_eq!(made_with(&mut store, "HTTP_PROXY", "x"), [1, 3, 4]);
    assert_eq!(made_with(&mut store, "HTTP_PROXY", "y"), [1, 3], "a proxy is not part of the key");
    assert_eq!(made_with(&mut store, "UNDECLARED", "y"), [1, 3]);
}

#[test]
fn no_cache_makes_everything_and_gives_the_same() {
    let (mut store, build) = (Store::default(), context());
    let first = build.run(&mut store).unwrap().built;
    let build = build.no_cache(true);
    let second = build.run(&mut store).unwrap();
    assert!(second.steps.iter().all(|step| !step.ends_with("CACHED")));
    assert_eq!(first.config, second.built.config, "the same plan gives the same digests");
}

#[test]
fn the_stat_cache_gives_the_same_keys() {
    let (mut store, build) = (Store::default(), context());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stat");
    let old = UNIX_EPOCH + Duration::from_secs(1000);
    for name in ["a", "b"] {
        fs::File::open(build.path(name)).unwrap().set_modified(old).unwrap();
    }
    let built = |store: &mut Store| {
        let mut plan = build.plan();
        plan.context =
            Context::open(build.context.path(), None).unwrap().with_stat_cache(StatCache::open(&path));
        carrack_build::build(&plan, store, &|_| {}).unwrap()
    };
    let first = built(&mut store);
    assert_eq!(first.layers, build.run(&mut store).unwrap().built.layers);
    assert!(!path.exists(), "the ctime of the files is too young");
    std::thread::sleep(Duration::from_millis(2100));
    built(&mut store);
    assert!(path.exists());
    assert_eq!(first.layers, built(&mut store).layers);
}
