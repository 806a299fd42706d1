//! Health checks: from the flags and from the image, with their timeouts, and what is shown of them.

use carrack_oci::Healthcheck;

use crate::kit::{IMAGE, busybox, empty_store, store};
use crate::{UNTIL_TERM, await_ready, detached, eventually, inspect};

const FAST: [&str; 4] = ["--health-interval", "50ms", "--health-retries", "2"];

#[test]
fn health_follows_what_the_check_says() {
    let store = store();
    let flags = [&["--name", "one", "--health-cmd", "cat /well"], &FAST[..]].concat();
    detached(&store, &flags, &format!("echo fine >/well; {UNTIL_TERM}"));
    eventually("it is healthy", || inspect(&store, "one", "{{.State.Health.Status}}") == "healthy");
    let status = store.carrack(["ps", "--format", "{{.Status}}"]).line();
    assert!(status.ends_with("(healthy)"), "{status}");
    let log = inspect(
        &store,
        "one",
        "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}",
    );
    assert_eq!(log, "0 fine");
    store.carrack(["healthcheck", "run", "one"]).success();

    store.carrack(["exec", "one", "rm", "/well"]).success();
    eventually("it is unhealthy", || inspect(&store, "one", "{{.State.Health.Status}}") == "unhealthy");
    assert_eq!(store.carrack(["healthcheck", "run", "one"]).code(1).stdout, "unhealthy\n");
    eventually("five checks are kept", || inspect(&store, "one", "{{len .State.Health.Log}}") == "5");
    let events = store.carrack(["events", "--stream=false", "--filter", "event=health_status"]).success();
    let events: Vec<_> =
        events.stdout.lines().map(|line| line.split(' ').nth(3).unwrap().to_owned()).collect();
    assert_eq!(events, ["healthy", "unhealthy"]);
    store.carrack(["stop", "--time", "0", "one"]).success();
    store.carrack(["healthcheck", "run", "one"]).code(1);
}

#[test]
fn a_check_that_hangs_is_killed_and_holds_nothing_up() {
    let store = store();
    let check = "yes | head -c 100000; sleep 1000";
    let flags = [&["--name", "one", "--health-cmd", check, "--health-timeout", "100ms"], &FAST[..]].concat();
    detached(&store, &flags, UNTIL_TERM);
    await_ready(&store, "one");
    eventually("it is unhealthy", || inspect(&store, "one", "{{.State.Health.Status}}") == "unhealthy");
    let output = inspect(
        &store,
        "one",
        "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}",
    );
    assert!(output.starts_with("-1 Health check exceeded timeout"), "{output}");
    store.carrack(["stop", "one"]).success();
    assert_eq!(inspect(&store, "one", "{{.State.ExitCode}}"), "7");
}

#[test]
fn failures_in_the_start_period_do_not_count() {
    let store = store();
    let flags = [
        &["--name", "one", "--health-cmd", "test -e /well", "--health-start-period", "1h"],
        &["--health-start-interval", "50ms", "--health-interval", "1h", "--health-retries", "1"][..],
    ]
    .concat();
    detached(&store, &flags, UNTIL_TERM);
    await_ready(&store, "one");
    eventually("there were checks", || inspect(&store, "one", "{{len .State.Health.Log}}") == "5");
    assert_eq!(
        inspect(&store, "one", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}"),
        "starting 0"
    );
    store.carrack(["exec", "one", "touch", "/well"]).success();
    eventually("it is healthy", || inspect(&store, "one", "{{.State.Health.Status}}") == "healthy");
}

#[test]
fn the_image_says_how_unless_a_flag_does() {
    let store = empty_store();
    let check = Healthcheck {
        test: ["CMD", "true"].map(str::to_owned).into(),
        interval: 50_000_000,
        retries: 4,
        ..Healthcheck::default()
    };
    store.load(&busybox().configure(|config| config.config.healthcheck = Some(check)), IMAGE);
    let create = |name: &str, flags: &[&str]| {
        let command = [&["create", "--network", "none", "--name", name], flags, &[IMAGE, "true"]].concat();
        store.carrack(command).success();
        inspect(&store, name, "{{json .Config.Healthcheck}}")
    };
    let own = create("own", &[]);
    assert!(own.contains(r#"["CMD","true"]"#) && own.contains(r#""Retries":4"#), "{own}");
    let mixed = create("mixed", &["--health-retries", "9"]);
    assert!(mixed.contains(r#"["CMD","true"]"#) && mixed.contains(r#""Retries":9"#), "{mixed}");
    assert_eq!(create("without", &["--no-healthcheck"]), "null");
    assert_eq!(create("none", &["--health-cmd", "none"]), "null");
    store.carrack(["create", "--no-healthcheck", "--health-retries", "1", IMAGE]).code(125);
    store.carrack(["create", "--health-interval", "soon", IMAGE]).code(125);
}

#[test]
fn an_image_cannot_have_checks_without_a_pause() {
    let store = empty_store();
    let check = Healthcheck {
        test: ["CMD", "true"].map(str::to_owned).into(),
        interval: 1,
        ..Healthcheck::default()
    };
    store.load(&busybox().configure(|config| config.config.healthcheck = Some(check)), IMAGE);
    let refused = store.carrack(["create", "--network", "none", IMAGE, "true"]).code(125);
    assert!(
        refused.stderr.contains("interval of health checks that the image asks for"),
        "{}",
        refused.stderr
    );
    assert_eq!(store.carrack(["ps", "--all", "--quiet"]).success().stdout, "");
    store.carrack(["create", "--health-interval", "999us", IMAGE, "true"]).code(125);
    store.carrack(["create", "--network", "none", "--health-interval", "1s", IMAGE, "true"]).success();
    store.carrack(["create", "--network", "none", "--no-healthcheck", IMAGE, "true"]).success();
}

#[test]
fn what_becomes_unhealthy_is_killed_stopped_or_started_again() {
    let store = store();
    let start = |name: &str, action: &str| {
        let check = ["--name", name, "--health-cmd", "test -e /well", "--health-on-failure", action];
        let flags = [&check, &FAST[..]].concat();
        detached(&store, &flags, "trap 'exit 7' TERM; touch /well; echo ready; sleep 1000 & wait");
        eventually("it is healthy", || inspect(&store, name, "{{.State.Health.Status}}") == "healthy");
        store.carrack(["exec", name, "rm", "/well"]).success();
    };
    for (action, code) in [("kill", "137"), ("stop", "7")] {
        start(action, action);
        eventually("it has ended", || inspect(&store, action, "{{.State.Status}}") == "exited");
        assert_eq!(inspect(&store, action, "{{.State.ExitCode}} {{.RestartCount}}"), format!("{code} 0"));
    }
    start("restart", "restart");
    let pid = inspect(&store, "restart", "{{.State.Pid}}");
    eventually("it runs again", || inspect(&store, "restart", "{{.RestartCount}}") == "1");
    eventually("it is healthy", || {
        let status = ["ps", "--filter", "name=^restart$", "--format", "{{.Status}}"];
        store.carrack(status).success().stdout.contains("(healthy)")
    });
    assert_ne!(inspect(&store, "restart", "{{.State.Pid}}"), pid);
    store.carrack(["stop", "restart"]).success();
    assert_eq!(inspect(&store, "restart", "{{.State.Status}}"), "exited", "a user has stopped it");
    assert_eq!(inspect(&store, "restart", "{{.Config.HealthcheckOnFailureAction}}"), "restart");
    let alone = store.carrack(["create", "--health-on-failure", "kill", IMAGE]).code(125);
    assert!(alone.stderr.contains("health check"), "{}", alone.stderr);
    store.carrack(["create", "--health-on-failure", "hope", IMAGE]).code(125);
}
