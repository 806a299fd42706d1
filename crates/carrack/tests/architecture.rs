//! The architecture as a test: which crate may use which, and where `unsafe` may stand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Every edge between crates of the workspace, from the top down. A new edge is a decision: it is added here and in
/// ARCHITECTURE.md, or the code goes somewhere else.
const EDGES: &[(&str, &[&str])] = &[
    ("carrack", &["engine", "oci"]),
    (
        "engine",
        &[
            "build",
            "container",
            "content",
            "distribution",
            "dockerfile",
            "image",
            "layer",
            "network",
            "oci",
            "registry",
            "runtime",
            "snapshot",
            "sys",
        ],
    ),
    ("registry", &["content", "oci", "sys"]),
    ("build", &["dockerfile", "layer", "oci", "sys"]),
    ("image", &["content", "layer", "oci", "sys"]),
    ("snapshot", &["layer", "oci", "sys"]),
    ("container", &["oci", "sys"]),
    ("distribution", &["oci", "sys"]),
    ("runtime", &["sys"]),
    ("network", &["sys"]),
    ("layer", &["oci", "sys"]),
    ("content", &["oci", "sys"]),
    ("testkit", &["oci"]),
    ("dockerfile", &[]),
    ("oci", &[]),
    ("sys", &[]),
];

fn short(name: &str) -> &str {
    name.strip_prefix("carrack-").unwrap_or(name)
}

/// The edges that the workspace has, dependencies of tests left out.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata works in a checkout");
    let members = metadata.packages.iter().map(|package| {
        let used = package.dependencies.iter().filter(|used| used.kind == DependencyKind::Normal);
        let own = used.filter(|used| used.path.is_some()).map(|used| short(&used.name).to_owned());
        (short(&package.name).to_owned(), own.collect())
    });
    members.collect()
}

#[test]
fn crates_use_only_what_the_table_allows() {
    let allowed: BTreeMap<String, BTreeSet<String>> = EDGES
        .iter()
        .map(|(name, used)| ((*name).to_owned(), used.iter().map(|used| (*used).to_owned()).collect()))
        .collect();
    assert_eq!(edges(), allowed);
}

#[test]
fn arrows_point_down() {
    let place =
        |name: &str| EDGES.iter().position(|(known, _)| *known == name).expect("every crate has a row");
    for (name, used) in EDGES {
        for used in *used {
            assert!(place(used) > place(name), "{name} uses {used}, which stands above it");
        }
    }
}

#[test]
fn only_sys_may_be_unsafe() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates/ is the parent");
    for entry in fs::read_dir(crates).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.ends_with("carrack-sys") {
            check_files(&folder.join("src"));
        }
    }
}

fn check_files(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            check_files(&path);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            // The lint denies `unsafe` in the whole workspace; what could lift it is looked for here.
            assert!(!text.contains("allow(unsafe_code)"), "{} lifts the lint", path.display());
        }
    }
}
