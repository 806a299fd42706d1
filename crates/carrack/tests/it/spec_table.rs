//! The tables of `docs/runtime-spec.md` name tests that exist.

use std::fs;
use std::path::{Path, PathBuf};

/// Where a file is that the table names.
fn place(file: &str) -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match file.split_once('/') {
        None => crates.join("carrack-runtime/tests/container").join(file),
        Some(("src", _)) => crates.join("carrack-runtime").join(file),
        Some(("oci_runtime", _)) => crates.join("carrack/tests").join(file),
        Some(_) => crates.join("..").join(file),
    }
}

/// Names of tests have several words; those of fields and files have not.
fn is_test(word: &str) -> bool {
    word.matches('_').count() > 1 && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[test]
fn every_test_that_the_table_of_the_specification_names_is_there() {
    let text = fs::read_to_string(place("docs/runtime-spec.md")).unwrap();
    let mut count = 0;
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let (_, cell) = line.trim_end_matches(" |").rsplit_once(" | ").unwrap();
        let mut file = None;
        for word in cell.split('`').skip(1).step_by(2) {
            if word.ends_with(".rs") {
                let content = fs::read_to_string(place(word));
                file = Some(content.unwrap_or_else(|_| panic!("there is no {word}: {line}")));
            } else if is_test(word) {
                let file = file.as_ref().unwrap_or_else(|| panic!("{word} stands before its file: {line}"));
                assert!(file.contains(&format!("fn {word}(")), "there is no {word}: {line}");
                count += 1;
            }
        }
    }
    assert!(count > 100, "only {count} tests were found");
}
