//! Expansion of variables, after the tables of Docker's reference.

use carrack_dockerfile::Expander;

fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "foo" => "value",
        "empty" => "",
        "str" | "string" => "foobarbaz",
        "two" => "a b",
        "path" => "/usr/local/bin",
        "quote" => "\"'",
        _ => return None,
    };
    Some(value.to_owned())
}

fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let got = Expander::new('\\', &lookup).word(text);
        assert_eq!(got.as_deref(), Ok(*expected), "{text}");
    }
}

#[test]
fn names_and_alternatives() {
    check(&[
        ("$foo", "value"),
        ("${foo}_bar", "value_bar"),
        ("$foo_bar", ""),
        ("$foo-bar", "value-bar"),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$1x", "x"),
        ("\\$foo", "$foo"),
        ("\\${foo}", "${foo}"),
        ("${none:-word}", "word"),
        ("${empty:-word}", "word"),
        ("${empty-word}", ""),
        ("${none-word}", "word"),
        ("${foo:+word}", "word"),
        ("${empty:+word}", ""),
        ("${empty+word}", "word"),
        ("${none+word}", ""),
        ("${none:-${foo:-x}}", "value"),
        ("${none:-\"a b\"}", "a b"),
        ("${none:-a\\}b}", "a}b"),
        ("${foo:?no}", "value"),
        ("${empty?no}", ""),
    ]);
}

#[test]
fn patterns() {
    check(&[
        ("${str#f*b}", "arbaz"),
        ("${str##f*b}", "az"),
        ("${string%b*}", "foobar"),
        ("${string%%b*}", "foo"),
        ("${string/ba/fo}", "fooforbaz"),
        ("${string//ba/fo}", "fooforfoz"),
        ("${str#*}", "foobarbaz"),
        ("${str##*}", ""),
        ("${str#x}", "foobarbaz"),
        ("${str#???}", "barbaz"),
        ("${str%?}", "foobarba"),
        ("${path##*/}", "bin"),
        ("${path%/*}", "/usr/local"),
        ("${path//\\//-}", "-usr-local-bin"),
        ("${str//a/}", "foobrbz"),
        ("${str/o*a/$foo}", "fvaluez"),
    ]);
}

#[test]
fn quotes_and_escapes() {
    check(&[
        ("'$foo'", "$foo"),
        ("\"$foo\"", "value"),
        ("\"a \\\" \\$foo \\x\"", "a \" $foo \\x"),
        ("a\\ b", "a b"),
        ("\"a\"'b'c", "abc"),
        ("$quote", "\"'"),
        ("'a\\'", "a\\"),
        ("end\\", "end"),
        ("", ""),
    ]);
    let expander = Expander::new('`', &lookup);
    assert_eq!(expander.word("c:\\x`$foo"), Ok("c:\\x$foo".to_owned()));
}

#[test]
fn words_and_documents() {
    let expander = Expander::new('\\', &lookup);
    assert_eq!(
        expander.words("$two \"$two\" x$two"),
        Ok(["a", "b", "a b", "xa", "b"].map(str::to_owned).to_vec())
    );
    assert_eq!(expander.document("it's \"$foo\" \\$foo\n"), Ok("it's \"value\" $foo\n".to_owned()));
}

#[test]
fn errors_and_bounds() {
    let expander = Expander::new('\\', &lookup);
    let deep = format!("{}x{}", "${a:-".repeat(1000), "}".repeat(1000));
    for text in [
        "${",
        "${}",
        "${foo",
        "${:x}",
        "${foo:x}",
        "${foo!x}",
        "${none:?}",
        "${none?say}",
        "'",
        "\"",
        "${foo:#x}",
        "${foo/x}",
        "${str#a\\b}",
        &deep,
    ] {
        assert!(expander.word(text).is_err(), "{text:.40} was expanded");
    }
    assert!(expander.word("${none:?say so}").unwrap_err().reason.contains("none: say so"));
    let large = |_: &str| Some("a".repeat(1 << 19));
    let expander = Expander::new('\\', &large);
    assert!(expander.word("$a$a$a").is_err());
    let started = std::time::Instant::now();
    for text in [
        "${a//a*b/x}",
        "${a##*a*a*a*a*b}",
        "${a//a/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx}",
    ] {
        let _ = expander.word(text);
    }
    assert!(started.elapsed().as_secs() < 10, "patterns took {:?}", started.elapsed());
}
