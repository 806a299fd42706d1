//! The crate edges: arrows point down only, and `unsafe` has one home.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Each crate and the workspace crates it may use, from the bottom up: a crate names only crates above its line.
const EDGES: &[(&str, &[&str])] = &[
    ("floor", &[]),
    ("sys", &[]),
    ("oci", &[]),
    ("dockerfile", &[]),
    ("content", &["oci", "sys"]),
    ("erofs", &[]),
    ("layer", &["erofs", "oci", "sys"]),
    ("network", &["sys"]),
    ("runtime", &["sys"]),
    ("snapshot", &["content", "erofs", "layer", "oci", "sys"]),
    ("image", &["content", "layer", "oci", "sys"]),
    ("distribution", &["oci", "sys"]),
    ("container", &["oci", "sys"]),
    ("registry", &["content", "oci", "sys"]),
    ("build", &["dockerfile", "layer", "oci", "sys"]),
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
    ("testkit", &["oci"]),
    ("", &["engine", "oci"]),
];

fn metadata() -> Metadata {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo metadata works")
}

/// `carrack-layer` is `layer`; the binary's crate is the empty name; foreign crates are none.
fn short(name: &str) -> Option<&str> {
    name.strip_prefix("carrack").map(|rest| rest.trim_start_matches('-'))
}

#[test]
fn crates_use_each_other_as_the_table_says() {
    let mut found = BTreeMap::new();
    for package in &metadata().packages {
        let dependencies = package.dependencies.iter().filter(|edge| edge.kind == DependencyKind::Normal);
        let mut edges: Vec<_> =
            dependencies.filter_map(|edge| short(&edge.name)).map(str::to_owned).collect();
        edges.sort();
        found.insert(short(&package.name).expect("a crate of this workspace").to_owned(), edges);
    }
    let table = EDGES.iter().map(|(name, edges)| {
        ((*name).to_owned(), edges.iter().map(|edge| (*edge).to_owned()).collect::<Vec<_>>())
    });
    assert_eq!(found, table.collect());
}

#[test]
fn arrows_point_down() {
    for (line, (name, edges)) in EDGES.iter().enumerate() {
        let below = |edge: &&str| EDGES[..line].iter().any(|(lower, _)| lower == edge);
        let up: Vec<_> = edges.iter().filter(|edge| !below(edge)).collect();
        assert!(up.is_empty(), "{name} uses {up:?}, which is not below it");
    }
}

#[test]
fn unsafe_code_is_in_the_syscall_crate_only() {
    for package in &metadata().packages {
        let folder = package.manifest_path.parent().expect("a manifest is in a folder");
        let sources = crate::kit::files_below(&folder.join("src").into_std_path_buf());
        let with_unsafe: Vec<_> = sources.into_iter().filter(|file| has_unsafe(file)).collect();
        // The floor of the benchmarks uses no crate of carrack, so that it has system calls of its own.
        let may = ["carrack-sys", "carrack-floor"].contains(&package.name.as_str());
        assert_eq!(!with_unsafe.is_empty(), may, "{with_unsafe:?}");
    }
}

fn has_unsafe(file: &Path) -> bool {
    // In two parts, so that this line is not found.
    let forms =
        ["{", "fn", "impl", "extern", "trait"].map(|form| format!("{} {form}", concat!("uns", "afe")));
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.any(|line| forms.iter().any(|form| line.contains(form)))
}
