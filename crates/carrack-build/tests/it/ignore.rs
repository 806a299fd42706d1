//! .dockerignore, after the tables of Docker's manual.

use carrack_build::IgnoreList;

use crate::kit::Build;

fn check(patterns: &str, excluded: &[&str], kept: &[&str]) {
    let list = IgnoreList::parse(patterns).unwrap();
    for path in excluded {
        assert!(list.excludes(path), "{patterns:?} keeps {path}");
    }
    for path in kept {
        assert!(!list.excludes(path), "{patterns:?} excludes {path}");
    }
}

#[test]
fn patterns_of_the_manual() {
    check("# comment", &[], &["# comment", "comment"]);
    check("*/temp*", &["somedir/temporary.txt", "somedir/temp", "somedir/temp/x"], &["temp", "a/b/temp"]);
    check("*/*/temp*", &["somedir/subdir/temporary.txt"], &["somedir/temp", "a/b/c/temp"]);
    check("temp?", &["tempa", "tempb", "tempa/x"], &["temp", "tempab", "a/tempa", "temp/"]);
    check("**/*.go", &["a.go", "x/a.go", "x/y/a.go"], &["a.gox", "go"]);
    check("/foo/bar", &["foo/bar", "foo/bar/baz"], &["bar", "x/foo/bar", "foo"]);
    check("foo/bar/", &["foo/bar", "foo/bar/x"], &["foo/barx"]);
    check("*.md\n!README.md", &["a.md"], &["README.md", "x/a.md"]);
    check(
        "*.md\n!README*.md\nREADME-secret.md",
        &["README-secret.md", "a.md"],
        &["README.md", "README-x.md"],
    );
    check("*.md\nREADME-secret.md\n!README*.md", &["a.md"], &["README-secret.md", "README.md"]);
    check("*\n!src", &["a", "b/c"], &["src", "src/x/y"]);
    check("*\n!src/keep", &["src", "src/other"], &["src/keep", "src/keep/x"]);
}

#[test]
fn forms_of_patterns() {
    check(" \t a/./b/../c \n\n", &["a/c"], &["a/b"]);
    check("\u{feff}a", &["a"], &["b"]);
    check("a/**", &["a/b", "a/b/c"], &["a", "ab"]);
    check("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a", "ab", "a/xb"]);
    check("**/b", &["b", "a/b", "a/b/c"], &["ab"]);
    check("**", &["a", "a/b"], &[]);
    check("[a-c]x", &["ax", "cx"], &["dx", "x"]);
    check("[^a-c]x", &["dx"], &["ax"]);
    check("a\\*", &["a*"], &["ab"]);
    check("ünï?", &["ünïx", "ünïß"], &["ünï"]);
    check(".", &[], &["a"]);
    check("/", &[], &["a"]);
    check("../a", &["a"], &[]);
}

#[test]
fn wrong_patterns_are_errors() {
    for wrong in ["[", "a[b", "[]a]", "[-]", "a\\", "!"] {
        assert!(IgnoreList::parse(wrong).is_err(), "{wrong:?} was accepted");
    }
}

#[test]
fn an_excluded_file_is_not_found_and_the_error_says_why() {
    let build =
        |file: &str| Build::new(file).file("secret", "s").file("d/x", "x").file(".dockerignore", "secret\nd");
    let tree = |file: &str| build(file).tree();
    assert_eq!(tree("FROM scratch\nCOPY . /c\n"), "c/ 755 0:0\nc/.dockerignore 644 0:0 \"secret\\nd\"\n");
    for source in ["secret", "d", "d/x", "link"] {
        let error = build(&format!("FROM scratch\nCOPY {source} /\n")).link("link", "secret").tree();
        assert!(error.contains(".dockerignore excludes it"), "{source}: {error}");
    }
}

#[test]
fn the_file_beside_the_dockerfile_wins() {
    let build =
        Build::new("").file("a", "").file("b", "").file(".dockerignore", "a").file("Other.dockerignore", "b");
    let mut plan = Build::new("FROM scratch\nCOPY a /\n").plan();
    plan.context = carrack_build::Context::open(build.context.path(), Some(&build.path("Other"))).unwrap();
    carrack_build::build(&plan, &mut crate::kit::Store::default(), &|_| {}).unwrap();
    plan.context = carrack_build::Context::open(build.context.path(), Some(&build.path("Missing"))).unwrap();
    assert!(carrack_build::build(&plan, &mut crate::kit::Store::default(), &|_| {}).is_err());
}
