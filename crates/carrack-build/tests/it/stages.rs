//! Stages, arguments, triggers.

use expect_test::expect;

use crate::kit::{Build, Store, causes, config};

fn error(build: &Build) -> String {
    causes(&build.run(&mut Store::default()).err().expect("it was built"))
}

#[test]
fn only_what_the_target_needs_is_built() {
    let build = Build::new(
        "FROM scratch AS base\nCOPY <<EOF /base\nEOF\nFROM broken AS unused\nRUN false\n\
         FROM base AS mid\nCOPY <<EOF /mid\nEOF\nFROM scratch AS last\nCOPY --from=mid /mid /got\n",
    );
    let mut store = Store::default();
    let report = build.run(&mut store).unwrap();
    expect![[r#"
        1/6 base: FROM scratch
        2/6 base: COPY <<EOF /base
        3/6 mid: FROM base
        4/6 mid: COPY <<EOF /mid
        5/6 last: FROM scratch
        6/6 last: COPY --from=mid /mid /got"#]]
    .assert_eq(&report.steps.join("\n"));
    expect![[r#"
        got 644 0:0 ""
    "#]]
    .assert_eq(&store.tree(&report.built));
    let report = build.target("base").run(&mut store).unwrap();
    expect![[r#"
        1/2 base: FROM scratch
        2/2 base: COPY <<EOF /base CACHED"#]]
    .assert_eq(&report.steps.join("\n"));
}

#[test]
fn wrong_stages_are_errors() {
    let file = "FROM scratch AS one\nCOPY --from=two /x /\nFROM one AS two\n";
    expect![[r#"
        error: the stage two needs itself
    "#]]
    .assert_eq(&error(&Build::new(file)));
    expect![[r#"
        error: no stage "three": the file has one, two
    "#]]
    .assert_eq(&error(&Build::new(file).target("three")));
    expect![[r#"
        error: the stage 0 needs itself
    "#]]
    .assert_eq(&error(&Build::new("FROM scratch\nCOPY --from=0 /x /\n")));
    expect![[r#"
        error: line 1: FROM $NONE
          caused by: "$NONE" expands to an empty text
    "#]]
    .assert_eq(&error(&Build::new("FROM $NONE\n")));
    expect![[r#"
        error: line 1: FROM Not/Valid
          caused by: cannot use "Not/Valid" as an image
          caused by: invalid reference "Not/Valid": a repository is written in lower case
    "#]]
    .assert_eq(&error(&Build::new("FROM Not/Valid\n")));
    expect![[r#"
        error: line 2: COPY --from=absent/image /x /
          caused by: cannot use the image absent/image
          caused by: no image docker.io/absent/image:latest
    "#]]
    .assert_eq(&error(&Build::new("FROM scratch\nCOPY --from=absent/image /x /\n")));
}

#[test]
fn arguments_have_scopes() {
    let file = "ARG VERSION=1\nARG BASE=scr\nFROM ${BASE}atch AS one\nLABEL none=\"[$VERSION]\"\nARG VERSION\n\
                LABEL own=\"$VERSION\"\nARG OTHER=${VERSION}2\nENV E=$OTHER\nARG TARGETARCH\nLABEL arch=$TARGETARCH\n\
                FROM one\nLABEL child=$OTHER\nENV OTHER=env\nLABEL env=$OTHER\nFROM scratch\nLABEL a=\"$VERSION\"\n";
    let labels = |build: &Build| {
        let report = build.run(&mut Store::default()).unwrap();
        (format!("{:?}", config(&report.built).config.labels.clone().unwrap()), report.warnings)
    };
    expect![[r#"{"arch": "amd64", "child": "12", "env": "env", "none": "[]", "own": "1"}"#]]
        .assert_eq(&labels(&Build::new(file).target("1")).0);
    let (text, warnings) = labels(&Build::new(file).target("1").arg("VERSION", "9").arg("UNKNOWN", "x"));
    expect![[r#"{"arch": "amd64", "child": "92", "env": "env", "none": "[]", "own": "9"}"#]].assert_eq(&text);
    assert_eq!(warnings, ["the build argument UNKNOWN is declared by no ARG"]);
    expect![[r#"{"a": ""}"#]].assert_eq(&labels(&Build::new(file)).0);
}

#[test]
fn triggers_run_in_the_next_build_once() {
    let mut store = Store::default();
    let base =
        Build::new("FROM scratch\nONBUILD COPY src /app\nONBUILD LABEL built=yes\n").run(&mut store).unwrap();
    store.add_image("example/base", &base.built);
    let child = Build::new("FROM example/base AS child\nLABEL x=y\nFROM child\n").file("src/f", "f");
    let child = child.run(&mut store).unwrap();
    expect![[r#"
        1/5 child: FROM example/base
        2/5 child: COPY src /app
        3/5 child: LABEL built=yes
        4/5 child: LABEL x=y
        5/5 1: FROM child"#]]
    .assert_eq(&child.steps.join("\n"));
    assert_eq!(config(&child.built).config.on_build, None);
    expect![[r#"
        app/ 755 0:0
        app/f 644 0:0 "f"
    "#]]
    .assert_eq(&store.tree(&child.built));
    let inner = "FROM scratch AS one\nONBUILD COPY <<EOF /f\ntext\nEOF\nFROM one\n";
    expect![[r#"
        f 644 0:0 "text\n"
    "#]]
    .assert_eq(&Build::new(inner).tree());
}

#[test]
fn a_base_image_gives_its_config() {
    let mut store = Store::default();
    let base = Build::new(
        "FROM scratch\nENV A=1\nWORKDIR /srv\nENTRYPOINT [\"/old\"]\nCMD [\"x\"]\nCOPY <<EOF f\nEOF\n",
    );
    let base = base.run(&mut store).unwrap();
    store.add_image("base", &base.built);
    let built = Build::new("FROM base\nENTRYPOINT [\"/new\"]\nENV B=$A\n").run(&mut store).unwrap().built;
    let container = &config(&built).config;
    assert_eq!(container.cmd, None, "the CMD of the base does not fit the new ENTRYPOINT");
    assert_eq!(container.env[1..], ["A=1", "B=1"]);
    assert_eq!(built.layers[..base.built.layers.len()], base.built.layers[..]);
    assert_eq!(config(&built).history.len(), config(&base.built).history.len() + 2);
}
