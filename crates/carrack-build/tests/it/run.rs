//! RUN: command, environment, here-documents, mounts, failure.

use expect_test::expect;

use crate::kit::{Build, Store, causes};

fn runs(dockerfile: &str) -> String {
    let mut store = Store::default();
    let build = Build::new(dockerfile)
        .file("src/main", "main")
        .file("secret.txt", "s")
        .file(".dockerignore", "secret*");
    if let Err(error) = build.run(&mut store) {
        return causes(&error);
    }
    store.runs.join("\n")
}

#[test]
fn forms_and_here_documents() {
    expect![[r#"
        /bin/sh -c true &&   true
        /bin/true a b
        /bin/sh -c echo one
        echo two > f

        /bin/sh -c cat <<A <<-B
        a
        A
        	b
        B"#]]
    .assert_eq(&runs(
        "FROM scratch\nRUN true && \\\n  # comment\n  true\nRUN [\"/bin/true\", \"a b\"]\n\
         RUN <<EOF\necho one\necho two > f\nEOF\nRUN cat <<A <<-B\na\nA\n\tb\n\tB\n",
    ));
    // The script cannot be run by the test's backend, which makes no mounts.
    let mut store = Store::default();
    let script = Build::new("FROM scratch\nRUN <<-EOF\n\t#!/usr/bin/env python\n\tprint()\nEOF\n");
    assert!(script.run(&mut store).is_err());
    expect![[r##"/dev/pipes/EOF [/dev/pipes/EOF file "#!/usr/bin/env python\nprint()\n"]"##]]
        .assert_eq(&store.runs.join("\n"));
}

#[test]
fn the_environment_of_a_command() {
    let mut store = Store::default();
    let build = Build::new(
        "FROM scratch\nARG A=1\nENV B=2\nWORKDIR /w\nRUN env | grep -v PWD | sort; pwd | sed 's|.*/||'\n",
    );
    let report = build.arg("http_proxy", "http://user:secret@proxy").run(&mut store).unwrap();
    expect![[r#"
        A=1
        B=2
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        http_proxy=http://user:secret@proxy
        w
    "#]]
    .assert_eq(&report.output);
    let history = format!("{:?}", report.built.config.history);
    assert!(history.contains("RUN |1 A=1 /bin/sh -c env"), "{history}");
    assert!(!history.contains("secret"), "{history}");
}

#[test]
fn mounts() {
    expect![[r#"/bin/sh -c true [/ctx bind .dockerignore 644 0:0 "secret*", src/ 755 0:0, src/main 644 0:0 "main"] [/w/src bind main 644 0:0 "main"] [/cache cache /cache] [/t Tmpfs { size_bytes: Some(1048576) }] [/run/secrets/key Secret { id: "key", env: None, required: false, file: (256, 0, 0) }]"#]].assert_eq(&runs(
        "FROM scratch AS one\nCOPY src /src\nFROM scratch\nARG T=/ca\nWORKDIR /w\n\
         RUN --mount=target=/ctx --mount=type=bind,from=one,source=/src,target=src --mount=type=cache,target=${T}che \
         --mount=type=tmpfs,target=/t,size=1m --mount=type=secret,id=key true\n",
    ));
    expect![[r#"
        error: line 2: RUN --mount=type=bind,source=secret.txt,target=/x true
          caused by: secret.txt is not in the build context: .dockerignore excludes it
    "#]]
    .assert_eq(&runs("FROM scratch\nRUN --mount=type=bind,source=secret.txt,target=/x true\n"));
}

#[test]
fn a_failure_says_what_and_where() {
    let error =
        Build::new("FROM scratch\nRUN echo no >&2; exit 3\n").run(&mut Store::default()).err().unwrap();
    assert_eq!(error.exit_code(), Some(3));
    expect![[r#"
        error: line 2: RUN echo no >&2; exit 3
          caused by: the command ended with exit code 3: /bin/sh -c echo no >&2; exit 3
    "#]]
    .assert_eq(&causes(&error));
}

#[test]
fn the_shape_that_users_know() {
    let mut store = Store::default();
    let build = Build::new(
        "FROM scratch\nLABEL maintainer=\"team\"\nENV APP=/app\nCOPY conf app/conf\n\
         RUN sed -i 's/listen 80/listen 8080/' app/conf && \\\n    mkdir -p app/cache && \\\n    \
         chgrp -R 0 app && \\\n    chmod -R g=u app\nEXPOSE 8080\nUSER 1001\nCMD start --a & \\\n    wait\n",
    )
    .file("conf", "listen 80");
    let report = build.run(&mut store).unwrap();
    expect![[r#"
        app/ 775 0:0
        app/cache/ 775 0:0
        app/conf 664 0:0 "listen 8080"
    "#]]
    .assert_eq(&store.tree(&report.built));
    assert_eq!(report.built.config.config.cmd.unwrap(), ["/bin/sh", "-c", "start --a &     wait"]);
    assert_eq!(report.built.config.config.user, "1001");
}
