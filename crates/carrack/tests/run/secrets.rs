//! Secrets: kept by `carrack secret`, found by programs, and by nobody else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use carrack_testkit::{Run, Store};

use crate::crash::kill_monitor;
use crate::kit::{IMAGE, files_below, run, store, with_input};
use crate::{UNTIL_TERM, await_ready, detached, inspect};

/// Nothing else has this text.
const DATA: &str = "hunter2-4f1d";

#[track_caller]
fn make(store: &Store, name: &str) -> String {
    let (code, stdout, stderr) =
        with_input(store.command().args(["secret", "create", name, "-"]), DATA.as_bytes());
    assert_eq!(code, 0, "{stderr}");
    stdout.trim().to_owned()
}

/// The files below `folder` that hold the data.
fn files_with_data(folder: &Path) -> Vec<String> {
    let holds = |file: &std::path::PathBuf| {
        fs::read(file).is_ok_and(|bytes| bytes.windows(DATA.len()).any(|window| window == DATA.as_bytes()))
    };
    files_below(folder).into_iter().filter(holds).map(|file| file.display().to_string()).collect()
}

#[test]
fn a_program_finds_its_secrets_and_nobody_else_does() {
    let store = store();
    make(&store, "token");
    let flags = [
        "--secret",
        "token",
        "--secret",
        "token,target=/etc/app/key,uid=1001,gid=1002,mode=0400",
        "--secret",
        "token,type=env,target=TOKEN",
    ];
    let look = "cat /run/secrets/token /etc/app/key; echo; stat -c '%u %g %a' /run/secrets/token /etc/app/key; \
                echo $TOKEN; (echo x > /run/secrets/token) 2>/dev/null || echo read-only";
    let seen = run(&store, &flags, look).line();
    assert_eq!(seen, format!("{DATA}{DATA}\n0 0 444\n1001 1002 400\n{DATA}\nread-only"));

    let id = detached(&store, &[&["--name", "one"], &flags[..]].concat(), UNTIL_TERM);
    await_ready(&store, "one");
    store.carrack(["commit", "one", "localhost/committed:1"]).success();
    let shown = [
        store.carrack(["inspect", "one"]).success().stdout,
        store.carrack(["inspect", "localhost/committed:1"]).success().stdout,
        store.carrack(["history", "--no-trunc", "localhost/committed:1"]).success().stdout,
        store.carrack(["secret", "inspect", "token"]).success().stdout,
        store.carrack(["secret", "ls", "--format", "json"]).success().stdout,
        store.carrack(["events", "--stream=false"]).success().stdout,
    ];
    assert!(shown.iter().all(|text| !text.contains(DATA)), "{shown:?}");
    assert_eq!(inspect(&store, "one", "{{len .Config.Secrets}}"), "3");
    // Nor do mount points of secrets get into an image.
    store
        .carrack(["run", "--rm", "--network", "none", "localhost/committed:1", "ls", "/run/secrets"])
        .code(1);
    let kept = store.root().join("secrets/token");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(files_with_data(&store.root()), [kept.display().to_string()]);
    // However it ends: it is stopped, its monitor is killed, it does not start.
    assert_ne!(files_with_data(&store.runroot()), Vec::<String>::new());
    kill_monitor(&store, &id);
    assert_eq!(inspect(&store, "one", "{{.State.Status}}"), "exited");
    assert_eq!(files_with_data(&store.runroot()), Vec::<String>::new());
    store.carrack(["start", "one"]).success();
    assert_ne!(files_with_data(&store.runroot()), Vec::<String>::new());
    store.carrack(["stop", "one"]).success();
    assert_eq!(files_with_data(&store.runroot()), Vec::<String>::new());
    let absent = [&["create", "--name", "two"], &flags[..], &[IMAGE, "/absent"]].concat();
    store.carrack(absent).success();
    store.carrack(["start", "two"]).code(1);
    assert_eq!(files_with_data(&store.runroot()), Vec::<String>::new());
}

#[test]
fn secrets_are_listed_replaced_and_removed() {
    let store = store();
    let id = make(&store, "token");
    assert_eq!((id.len(), make(&store, "other.key").len()), (25, 25));
    let secret = |arguments: &[&str]| -> Run { store.carrack([&["secret"], arguments].concat()) };
    assert_eq!(secret(&["ls", "--format", "{{.Name}}"]).line(), "other.key\ntoken");
    assert_eq!(secret(&["ls", "-q", "--filter", "name=tok"]).line(), id);
    secret(&["exists", &id[..8]]).success();
    secret(&["exists", "absent"]).code(1);
    let format = ["inspect", "--format", "{{.Spec.Name}} {{.Spec.Driver.Name}} {{.ID}}", "token"];
    assert_eq!(secret(&format).line(), format!("token file {id}"));
    let file = store.path().join("file");
    fs::write(&file, "from a file").unwrap();
    let file = file.to_str().unwrap();
    assert!(secret(&["create", "token", file]).code(1).stderr.contains("exists already"));
    // What is created waits for the secret of its name, whatever becomes of that meanwhile.
    store
        .carrack([
            "create",
            "--name",
            "one",
            "--network",
            "none",
            "--secret",
            &id,
            IMAGE,
            "cat",
            "/run/secrets/token",
        ])
        .success();
    secret(&["create", "--replace", "token", file]).success();
    assert_eq!(store.carrack(["start", "--attach", "one"]).line(), "from a file");
    assert_eq!(secret(&["rm", "token"]).success().stdout.lines().count(), 1);
    let gone = store.carrack(["start", "--attach", "one"]).code(125);
    assert!(gone.stderr.contains("secret create token"), "{}", gone.stderr);
    let absent = run(&store, &["--secret", "token"], "true").code(125);
    assert!(absent.stderr.contains("no such secret"), "{}", absent.stderr);
    secret(&["rm", "token"]).code(1);
    secret(&["rm", "--ignore", "token"]).success();
    secret(&["create", "a/b", file]).code(1);
    fs::write(file, [0; 512_001]).unwrap();
    assert!(secret(&["create", "long", file]).code(1).stderr.contains("512000"));
    let by_variable =
        store.command().args(["secret", "create", "--env", "v", "SHIP"]).env("SHIP", "x").status();
    assert!(by_variable.unwrap().success());
    secret(&["rm", "--all"]).success();
    assert_eq!(secret(&["ls", "-q"]).line(), "");
}

#[test]
fn a_secret_has_its_owner_in_a_user_namespace() {
    let store = store();
    make(&store, "token");
    let flags = ["--userns", "auto", "--secret", "token,uid=7,gid=8,mode=0440"];
    assert_eq!(run(&store, &flags, "stat -c '%u %g' /run/secrets/token").line(), "7 8");
    run(&store, &["--userns", "auto", "--secret", "token,uid=4000000000"], "true").code(125);
}
