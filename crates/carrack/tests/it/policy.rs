//! When an image is pulled: `--pull` of run and build, `--policy` of pull, and references by digest.

use std::fs;

use carrack_testkit::{ImageFixture, Registry, Store};

use crate::kit::{CARRACK, IMAGE, busybox, digest, empty_store, id, store};

/// A registry with an image, its name there, and a store that has pulled it.
fn pulled() -> (Registry, String, Store) {
    let registry = Registry::start(CARRACK);
    let name = format!("{}/app:1", registry.address());
    store().carrack(["push", IMAGE, &name]).success();
    let there = empty_store();
    there.carrack(["pull", &name]).success();
    (registry, name, there)
}

/// Puts another image under `name`.
fn replace(name: &str) -> String {
    let other = empty_store();
    let image: ImageFixture = busybox().layer("/newer \"1\"");
    other.load(&image, IMAGE);
    other.carrack(["push", IMAGE, name]).success();
    id(&other, IMAGE)
}

fn run_with(store: &Store, policy: &str, name: &str) -> carrack_testkit::Run {
    store.carrack(["run", "--rm", "--network", "none", "--pull", policy, name, "true"])
}

#[test]
fn run_pulls_what_is_missing_and_tells_on_standard_error() {
    let (registry, name, _) = pulled();
    let there = empty_store();
    let run = there.carrack(["run", "--rm", "--network", "none", &name, "echo", "ahoy"]).success();
    assert_eq!(run.stdout, "ahoy\n");
    assert!(run.stderr.contains(&format!("Unable to find image '{name}' locally")), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("Downloaded newer image for {name}")), "{}", run.stderr);
    let quiet = empty_store();
    let run = quiet.carrack(["run", "--quiet", "--rm", "--network", "none", &name, "true"]).success();
    assert_eq!(run.stderr, "");
    let created = empty_store();
    created.carrack(["create", &name]).success();
    drop(registry);
    created.carrack(["create", &name]).success();
}

#[test]
fn never_asks_nobody_and_says_what_docker_says() {
    let (_registry, name, there) = pulled();
    let empty = empty_store();
    let absent = empty.carrack(["run", "--pull", "never", &name]).code(125);
    assert!(absent.stderr.contains(&format!("no such image: {name}")), "{}", absent.stderr);
    let absent = empty.carrack(["pull", "--policy", "never", "absent"]).code(1);
    assert!(absent.stderr.contains("no such image: absent:latest"), "{}", absent.stderr);
    let before = id(&there, &name);
    replace(&name);
    run_with(&there, "never", &name).success();
    there.carrack(["pull", "--policy", "never", &name]).success();
    assert_eq!(id(&there, &name), before);
    let other = there.carrack(["run", "--pull", "never", "--platform", "linux/s390x", &name]).code(125);
    assert!(other.stderr.contains("linux/s390x"), "{}", other.stderr);
}

#[test]
fn missing_keeps_always_and_newer_replace() {
    for (policy, replaces) in [("missing", false), ("always", true), ("newer", true)] {
        let (_registry, name, there) = pulled();
        let before = id(&there, &name);
        let after = replace(&name);
        run_with(&there, policy, &name).success();
        assert_eq!(id(&there, &name), if replaces { &after } else { &before }.clone(), "{policy}");
        there.carrack(["pull", "--policy", policy, &name]).success();
        assert_eq!(id(&there, &name), if replaces { after } else { before }, "{policy}");
    }
}

#[test]
fn without_the_registry_newer_makes_do_and_always_fails() {
    let (registry, name, there) = pulled();
    drop(registry);
    let newer = run_with(&there, "newer", &name).success();
    assert!(newer.stderr.contains("warning: ") && newer.stderr.contains(&name), "{}", newer.stderr);
    there.carrack(["pull", "--policy", "newer", &name]).success();
    run_with(&there, "missing", &name).success();
    run_with(&there, "always", &name).code(125);
    there.carrack(["pull", &name]).code(1);
    let empty = empty_store();
    run_with(&empty, "newer", &name).code(125);
}

#[test]
fn a_digest_that_is_here_asks_no_registry() {
    let (registry, name, there) = pulled();
    let digest = digest(&there, &name);
    let by_digest = format!("{}/app@{digest}", registry.address());
    let absent = format!("{}/app@sha256:{}", registry.address(), "0".repeat(64));
    drop(registry);
    let pulled = there.carrack(["pull", &by_digest]).success();
    assert!(pulled.stdout.contains(&digest) && pulled.stdout.contains("up to date"), "{}", pulled.stdout);
    for policy in ["always", "newer", "missing", "never"] {
        let run = run_with(&there, policy, &by_digest).success();
        assert_eq!(run.stderr, "", "{policy}");
    }
    there.carrack(["pull", &absent]).code(1);
    let context = there.path().join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), format!("FROM {by_digest}\nLABEL a=b\n")).unwrap();
    there.carrack(["build", "--pull", context.to_str().unwrap()]).success();
    fs::write(context.join("Dockerfile"), format!("FROM {name}\nLABEL a=b\n")).unwrap();
    for (flag, code) in [("--pull=false", 0), ("--pull=newer", 0), ("--pull", 1), ("--pull=always", 1)] {
        there.carrack(["build", flag, context.to_str().unwrap()]).code(code);
    }
}
