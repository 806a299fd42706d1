//! The table of flags in `docs/run-flags.md` and the command line say the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::kit::empty_store;

/// A line of the table.
struct Row {
    /// With its dashes, the long form.
    flag: String,
    says: String,
    /// The file of the test, and its name where one is given.
    test: Vec<String>,
}

/// The words between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn rows() -> Vec<Row> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/run-flags.md");
    let text = fs::read_to_string(file).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(" | ").collect();
        let [flags, says, test] = cells[..] else { return None };
        let flag = quoted(flags).into_iter().find(|flag| flag.starts_with("--"))?;
        Some(Row { flag, says: says.to_owned(), test: quoted(test) })
    };
    text.lines().filter(|line| line.starts_with("| `-")).filter_map(row).collect()
}

/// Every long flag in the help of `run`, less those of all commands.
fn flags_of_help() -> BTreeSet<String> {
    let help = empty_store().carrack(["run", "--help"]).success().stdout;
    let words = help.lines().filter(|line| line.trim_start().starts_with('-'));
    let long = words.filter_map(|line| line.split([' ', '[', '=']).find(|word| word.starts_with("--")));
    let of_all = ["--root", "--runroot", "--storage-driver", "--cgroup-manager", "--settings", "--log-level"];
    long.map(str::to_owned).filter(|flag| !of_all.contains(&flag.as_str())).collect()
}

#[test]
fn every_flag_of_the_command_line_is_in_the_table() {
    let rows = rows();
    assert!(rows.len() > 140, "{} rows were read", rows.len());
    let known: BTreeSet<&str> = rows.iter().map(|row| row.flag.as_str()).collect();
    assert_eq!(known.len(), rows.len(), "a flag is there twice");
    let missing: Vec<_> = flags_of_help().into_iter().filter(|flag| !known.contains(flag.as_str())).collect();
    assert!(missing.is_empty(), "the table lacks {missing:?}");
}

#[test]
fn every_flag_of_the_table_is_known() {
    let (store, help) = (empty_store(), flags_of_help());
    for row in rows() {
        if row.says.contains("refused") {
            let refused = store.carrack(["run", &row.flag]);
            let unknown = refused.stderr.contains("unexpected argument");
            assert!(refused.code == 125 && !unknown, "{}: {}", row.flag, refused.stderr);
            continue;
        }
        assert!(help.contains(&row.flag), "the command line lacks {}", row.flag);
    }
}

#[test]
fn every_test_of_the_table_is_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run");
    for row in rows() {
        assert!(!row.test.is_empty(), "{} has no test", row.flag);
        let mut text = String::new();
        for word in &row.test {
            if word.ends_with(".rs") {
                text = fs::read_to_string(folder.join(word))
                    .unwrap_or_else(|_| panic!("{}: there is no {word}", row.flag));
            } else {
                assert!(text.contains(&format!("fn {word}(")), "{}: there is no {word}", row.flag);
            }
        }
    }
}

#[test]
fn what_cannot_apply_says_so() {
    let store = empty_store();
    let run =
        |flags: &[&str]| store.carrack([&["run", "--rm", "--pull", "never"], flags, &["absent"]].concat());
    let refused: [&[&str]; 9] = [
        &["--link", "db:db"],
        &["--ip6", "fd00::2"],
        &["--network-alias", "db"],
        &["--isolation", "hyperv"],
        &["--disable-content-trust=false"],
        &["--passwd"],
        &["--pod", "p"],
        &["--storage-opt", "size=1g"],
        &["--volume-driver", "nfs"],
    ];
    for flags in refused {
        let run = run(flags).code(125);
        assert!(run.stderr.contains("cannot apply: "), "{flags:?}: {}", run.stderr);
    }
    let accepted: [&[&str]; 7] = [
        &["--isolation", "default"],
        &["--disable-content-trust"],
        &["--passwd=false"],
        &["--sdnotify", "ignore"],
        &["--kernel-memory", "0"],
        &["--volume-driver", "local"],
        &["--preserve-fds", "0"],
    ];
    for flags in accepted {
        let run = run(flags).code(125);
        assert!(run.stderr.contains("absent") && !run.stderr.contains("apply"), "{flags:?}: {}", run.stderr);
    }
}

#[test]
fn flags_that_are_there_or_not_take_gos_spelling() {
    let store = empty_store();
    for flags in [["--rm=true", "--init=false"], ["--rm=false", "--read-only=1"]] {
        let run = store.carrack(["run", flags[0], flags[1], "--pull", "never", "absent"]).code(125);
        assert!(run.stderr.contains("absent"), "{}", run.stderr);
    }
    let wrong = store.carrack(["run", "--rm=maybe", "absent"]).code(125);
    assert!(wrong.stderr.contains("--rm"), "{}", wrong.stderr);
}
