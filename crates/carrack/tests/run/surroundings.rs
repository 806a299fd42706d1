//! Flags that change what the program finds around it: variables, names, files of name resolution, time, marks.

use carrack_testkit::{Run, Store};

use crate::kit::{IMAGE, LIMIT, busybox, empty_store, run, store};
use crate::{folder, inspect};

/// `carrack run --rm --network none FLAGS IMAGE env` with `variables` in the caller's environment; sorted lines.
#[track_caller]
fn environment(store: &Store, variables: &[(&str, &str)], flags: &[&str]) -> Vec<String> {
    let mut command = store.command();
    command.env_clear().envs(variables.iter().copied());
    command.args(["run", "--rm", "--network", "none"]).args(flags).args([IMAGE, "/bin/env"]);
    let mut lines: Vec<String> = Run::of(&mut command, LIMIT).line().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn variables_are_passed_on_and_left_out() {
    let store = store();
    let caller = [("SHIP_A", "1"), ("SHIP_B", "2"), ("HTTP_PROXY", "http://proxy.example"), ("X", "y")];
    let host = environment(&store, &caller, &["--env-host", "-e", "X=mine"]);
    for expected in ["SHIP_A=1", "SHIP_B=2", "X=mine", "HOME=/root"] {
        assert!(host.iter().any(|line| line == expected), "{expected} of {host:?}");
    }
    let some =
        environment(&store, &caller, &["-e", "SHIP_*", "--unsetenv", "HOME", "--unsetenv", "HOSTNAME"]);
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(some, [path, "SHIP_A=1", "SHIP_B=2"]);
    assert_eq!(environment(&store, &caller, &["--unsetenv-all", "-e", "ONLY=this"]), ["ONLY=this"]);
    let proxies = environment(&store, &caller, &["--http-proxy", "--unsetenv-all"]);
    assert_eq!(proxies, ["HTTP_PROXY=http://proxy.example"]);
    run(&store, &["-e", "=x"], "true").code(125);
}

#[test]
fn labels_and_notes_are_kept() {
    let store = store();
    let files = folder(&store, "files", &[("labels", "# comment\nA=file\nB=file\n")]);
    let file = files.join("labels").display().to_string();
    let flags = ["create", "--name", "one", "--label-file", &file, "-l", "B=flag", "-l", "C"];
    store.carrack([&flags[..], &["--annotation", "org.example=a=b", IMAGE, "true"]].concat()).success();
    assert_eq!(inspect(&store, "one", "{{json .Config.Labels}}"), r#"{"A":"file","B":"flag","C":""}"#);
    assert_eq!(inspect(&store, "one", "{{json .HostConfig.Annotations}}"), r#"{"org.example":"a=b"}"#);
    store.carrack(["create", "--annotation", "no-value", IMAGE, "true"]).code(125);
}

#[test]
fn new_files_lack_the_bits_of_the_umask() {
    let store = store();
    let script = "umask; touch /x; stat -c %a /x";
    assert_eq!(run(&store, &[], script).line(), "0022\n644");
    assert_eq!(run(&store, &["--umask", "0077"], script).line(), "0077\n600");
    run(&store, &["--umask", "9"], "true").code(125);
}

#[test]
fn the_time_zone_is_that_of_the_flag() {
    let store = store();
    let script = "date -d @0 +%H";
    assert_eq!(run(&store, &["--tz", "Asia/Tokyo"], script).line(), "09");
    run(&store, &["--tz", "local"], "test -s /etc/localtime").success();
    for zone in ["Nowhere/Land", "../../../etc/passwd", "/etc/passwd", "zone.tab"] {
        let refused = run(&store, &["--tz", zone], "true").code(125);
        assert!(refused.stderr.contains("unknown time zone"), "{}", refused.stderr);
    }
}

#[test]
fn names_of_the_host_and_of_others() {
    let store = store();
    let script = "hostname; cat /proc/sys/kernel/domainname";
    assert_eq!(run(&store, &["-h", "ship", "--domainname", "fleet"], script).line(), "ship\nfleet");
    for name in ["a\n192.0.2.9 bank", "-a", "a b", &"a".repeat(65)] {
        run(&store, &["--hostname", name], "true").code(125);
    }
    let flags =
        ["--add-host", "db:192.0.2.7", "--add-host", "six=[fd00::1]", "--add-host", "up:host-gateway"];
    let hosts = run(&store, &flags, "tail -n 3 /etc/hosts").line();
    assert_eq!(hosts, "192.0.2.7\tdb\nfd00::1\tsix\n10.87.0.1\tup");
    run(&store, &["--add-host", "db"], "true").code(125);
    let own = run(&store, &["--no-hosts", "--no-hostname"], "mount | grep -c /etc/host").code(1);
    assert_eq!(own.stdout, "0\n");
    run(&store, &["--no-hosts", "--add-host", "db:192.0.2.7"], "true").code(125);
}

#[test]
fn name_servers_and_what_goes_with_them() {
    let store = store();
    let flags =
        ["--dns", "192.0.2.53", "--dns", "fd00::53", "--dns-search", "a.example", "--dns-option", "ndots:3"];
    let script = "grep -E '^(nameserver|search|options)' /etc/resolv.conf";
    let expected = "search a.example\nnameserver 192.0.2.53\nnameserver fd00::53\noptions ndots:3";
    assert_eq!(run(&store, &flags, script).line(), expected);
    run(&store, &["--dns-search", "."], "grep ^search /etc/resolv.conf").code(1);
    run(&store, &["--dns-search", "a\nnameserver 192.0.2.1"], "true").code(125);
    run(&store, &["--dns", "nowhere"], "true").code(125);
}

#[test]
fn an_empty_entrypoint_takes_the_images_away() {
    let store = store();
    let with_entrypoint = busybox().configure(|config| {
        config.config.entrypoint = Some(vec!["/bin/echo".to_owned(), "entry".to_owned()])
    });
    store.load(&with_entrypoint, "localhost/entry:1");
    let flags = ["run", "--rm", "--network", "none"];
    let with = |rest: &[&str]| store.carrack([&flags, rest].concat());
    assert_eq!(with(&["localhost/entry:1", "x"]).line(), "entry x");
    assert_eq!(with(&["--entrypoint", "", "localhost/entry:1", "/bin/echo", "alone"]).line(), "alone");
    with(&["--entrypoint", "", "localhost/entry:1"]).code(125);
}

#[test]
fn the_callers_groups_are_kept_on_request() {
    let store = store();
    let mut command = store.command();
    let program = command.get_program().to_owned();
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    command = std::process::Command::new("setpriv");
    command.args(["--groups", "4001,4002"]).arg(program).args(arguments);
    command.args([
        "run",
        "--rm",
        "--network",
        "none",
        "-u",
        "7:8",
        "--group-add",
        "keep-groups",
        IMAGE,
        "id",
        "-G",
    ]);
    assert_eq!(Run::of(&mut command, LIMIT).line(), "8 4001 4002");
    run(&store, &["--group-add", "keep-groups", "--group-add", "1"], "true").code(125);
}

#[test]
fn variables_are_made_of_those_of_the_image() {
    let store = empty_store();
    let image = busybox().configure(|config| config.config.env = vec!["GREETING=ahoy".to_owned()]);
    store.load(&image, IMAGE);
    let flags =
        ["--env-merge", "GREETING=${GREETING}, ship", "--env-merge", "NEW=$GREETING!", "-e", "OWN=$GREETING"];
    let seen = run(&store, &flags, "echo $GREETING; echo $NEW; echo $OWN").line();
    assert_eq!(seen, "ahoy, ship\nahoy!\n$GREETING");
    run(&store, &["--env-merge", "NAME"], "true").code(125);
}
