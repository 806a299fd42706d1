//! Whatever the text, parsing and expanding end with a value or an error that can be shown.

use carrack_dockerfile::{Expander, parse, parse_trigger};
use proptest::prelude::*;

/// Texts of pieces that mean something, so that deep paths are reached.
fn texts() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just("FROM x\n"),
        Just("FROM "),
        Just(" AS "),
        Just("RUN "),
        Just("COPY "),
        Just("ADD "),
        Just("ENV "),
        Just("ARG "),
        Just("LABEL "),
        Just("ONBUILD "),
        Just("HEALTHCHECK "),
        Just("CMD "),
        Just("VOLUME "),
        Just("SHELL "),
        Just("\n"),
        Just("\\\n"),
        Just("\r\n"),
        Just("# escape=`\n"),
        Just("#"),
        Just("<<EOF"),
        Just("<<-'E'"),
        Just("EOF\n"),
        Just("\t"),
        Just("["),
        Just("]"),
        Just("\""),
        Just("'"),
        Just("\\"),
        Just("`"),
        Just("${"),
        Just("}"),
        Just("$a"),
        Just(":-"),
        Just("#*"),
        Just("//"),
        Just("--mount=type=cache,"),
        Just("--from="),
        Just("target=/x"),
        Just("="),
        Just(","),
        Just(" "),
        Just("--"),
        Just("--interval=5s "),
        Just("é\u{feff}"),
        Just("\u{2028}"),
        Just("\0"),
        Just("a"),
    ];
    prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parse_ends(text in texts()) {
        match parse(&text) {
            Ok(file) => prop_assert!(!file.stages.is_empty()),
            Err(error) => prop_assert!(error.render("Dockerfile", &text).contains(&error.message)),
        }
        let _ = parse_trigger(&text);
    }

    #[test]
    fn parse_ends_for_any_text(text in any::<String>()) {
        let _ = parse(&format!("FROM x\nRUN {text}"));
        let _ = parse(&text);
    }

    #[test]
    fn expansion_ends(text in texts(), value in "[a-z*?$\"]{0,8}") {
        let lookup = |_: &str| Some(value.clone());
        let expander = Expander::new('\\', &lookup);
        let _ = (expander.word(&text), expander.words(&text), expander.document(&text));
    }

    #[test]
    fn quoted_text_stays(text in "[^'\\n\\\\]*") {
        let none = |_: &str| None;
        prop_assert_eq!(Expander::new('\\', &none).word(&format!("'{text}'")), Ok(text));
    }
}
