//! What is told of containers, and commands that act on those that filters choose.

use std::process::Command;

use carrack_testkit::{Run, Store};

use crate::kit::{IMAGE, LIMIT, store};
use crate::{UNTIL_TERM, detached, eventually, inspect};

/// Three containers: `one` has exited with 3, `two` was never started, `three` runs.
fn fleet() -> Store {
    let store = store();
    detached(&store, &["--name", "one", "-l", "team=sea", "-l", "old"], "exit 3");
    store.carrack(["wait", "one"]).success();
    let two =
        ["create", "--name", "two", "--network", "none", "-l", "team=land", "--expose", "80", IMAGE, "true"];
    store.carrack(two).success();
    detached(
        &store,
        &["--name", "three", "-l", "team=sea", "--stop-timeout", "0", "-v", "/etc:/host:ro"],
        UNTIL_TERM,
    );
    store
}

/// The names that `ps` lists with `flags`.
#[track_caller]
fn names(store: &Store, flags: &[&str]) -> String {
    let listed = store.carrack([&["ps", "--format", "{{.Names}}"], flags].concat()).success().stdout;
    listed.lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn ps_filters_as_docker() {
    let store = fleet();
    let (one, three) = (inspect(&store, "one", "{{.Id}}"), inspect(&store, "three", "{{.Id}}"));
    let filtered = |filter: &str| names(&store, &["-a", "--filter", filter]);
    assert_eq!(names(&store, &[]), "three");
    assert_eq!(names(&store, &["-a"]), "three two one");
    for (filter, expected) in [
        ("name=t", "three two"),
        ("name=^/one$", "one"),
        ("name=ee$", "three"),
        ("label=team", "three two one"),
        ("label=team=sea", "three one"),
        ("label!=team=sea", "two"),
        ("status=exited", "one"),
        ("status=created", "two"),
        ("status=running", "three"),
        ("status=paused", ""),
        ("exited=3", "one"),
        ("exited=0", ""),
        ("before=two", "one"),
        ("since=two", "three"),
        ("until=24h", ""),
        ("network=none", "three two one"),
        ("network=bridge", ""),
        ("ancestor=localhost/busybox:1", "three two one"),
        ("volume=/etc", "three"),
        ("volume=/host", "three"),
        ("volume=/nowhere", ""),
        ("expose=80", "two"),
        ("expose=70-90/tcp", "two"),
        ("publish=80", ""),
        ("health=none", "three two one"),
        ("health=healthy", ""),
        ("is-task=false", "three two one"),
        (&format!("id={}", &one[..20]), "one"),
    ] {
        assert_eq!(filtered(filter), expected, "{filter}");
    }
    // Kinds are joined by "and", values of one kind by "or"; a status means containers that do not run too.
    assert_eq!(names(&store, &["--filter", "status=exited", "--filter", "status=created"]), "two one");
    assert_eq!(names(&store, &["-a", "--filter", "label=team=sea", "--filter", "name=o"]), "one");
    assert_eq!(names(&store, &["-a", "--filter", "label=team=sea", "--filter", "label=old"]), "one");
    for wrong in
        ["status=odd", "name=w.*b", "nonsense=1", "exited=x", "before=absent", "ancestor=absent", "label"]
    {
        let refused = store.carrack(["ps", "--filter", wrong]).code(1);
        assert!(refused.stderr.contains("error:"), "{wrong}: {}", refused.stderr);
    }
    assert_eq!(store.carrack(["container", "ls", "-q", "--no-trunc"]).line(), three);
    assert_eq!(store.carrack(["container", "list", "-q", "--no-trunc"]).line(), three);
    store.carrack(["rm", "-f", "three"]).success();
}

#[test]
fn an_image_that_was_built_on_another_has_it_as_ancestor() {
    let store = fleet();
    store.load(&crate::kit::busybox().layer("/more \"x\""), "localhost/more:1");
    store.carrack(["create", "--name", "four", "localhost/more:1"]).success();
    assert_eq!(names(&store, &["-a", "--filter", "ancestor=localhost/more:1"]), "four");
    assert_eq!(names(&store, &["-a", "--filter", "ancestor=localhost/busybox:1"]), "four three two one");
    store.carrack(["rm", "-f", "three"]).success();
}

#[test]
fn ps_limits_sorts_and_measures() {
    let store = fleet();
    assert_eq!(names(&store, &["-n", "2"]), "three two");
    assert_eq!(names(&store, &["--last", "1"]), "three");
    assert_eq!(names(&store, &["-l"]), "three");
    assert_eq!(names(&store, &["-n", "-1", "-a"]), "three two one");
    assert_eq!(names(&store, &["-a", "--sort", "created"]), "one two three");
    assert_eq!(names(&store, &["-a", "--sort", "names"]), "one three two");
    assert_eq!(names(&store, &["-a", "--sort", "status"]), "two one three");
    let table = store.carrack(["ps", "-a", "--size"]).success().stdout;
    assert!(table.lines().next().unwrap().ends_with("NAMES   SIZE"), "{table}");
    assert!(table.lines().skip(1).all(|line| line.contains("(virtual ")), "{table}");
    let bare = store.carrack(["ps", "-a", "--noheading"]).success().stdout;
    assert_eq!(bare.lines().count(), 3, "{bare}");
    let row = store.carrack(["ps", "-a", "--filter", "name=one", "--format", "json"]).line();
    for field in [
        "Command",
        "CreatedAt",
        "ID",
        "Image",
        "Labels",
        "LocalVolumes",
        "Mounts",
        "Names",
        "Networks",
        "Ports",
        "RunningFor",
        "Size",
        "State",
        "Status",
    ] {
        assert!(row.contains(&format!("\"{field}\":")), "{field} of {row}");
    }
    let size = store.carrack(["inspect", "--size", "--format", "{{.SizeRw}} {{.SizeRootFs}}", "one"]).line();
    let sizes: Vec<u64> = size.split(' ').map(|size| size.parse().unwrap()).collect();
    assert!(sizes[0] < sizes[1], "{size}");
    store.carrack(["rm", "-f", "three"]).success();
}

#[test]
fn commands_act_on_what_is_chosen() {
    let store = fleet();
    let ids = |words: &[&str]| store.carrack(words).success().stdout.lines().count();
    assert_eq!(ids(&["stop", "--filter", "label=team=land", "--all"]), 0);
    assert_eq!(ids(&["stop", "--all"]), 1);
    assert_eq!(names(&store, &[]), "");
    assert_eq!(ids(&["start", "--filter", "name=three"]), 1);
    assert_eq!(ids(&["restart", "--all", "--running"]), 1);
    assert_eq!(ids(&["kill", "--all"]), 1);
    store.carrack(["wait", "three"]).success();
    store.carrack(["stop", "--ignore", "absent"]).success();
    store.carrack(["stop", "absent", "one"]).code(1);
    store.carrack(["rm", "--all", "one"]).code(125);
    store.carrack(["rm"]).code(125);
    // One that fails is reported, and the others are removed all the same.
    let partly = store.carrack(["rm", "absent", "two"]).code(1);
    assert_eq!(partly.stdout, "two\n");
    store.carrack(["rm", "--ignore", "absent"]).success();
    assert_eq!(ids(&["rm", "--volumes", "--filter", "exited=3"]), 1);
    assert_eq!(names(&store, &["-a"]), "three");
    assert_eq!(ids(&["rm", "--latest"]), 1);
    assert_eq!(names(&store, &["-a"]), "");
}

#[test]
fn prune_removes_what_passes() {
    let store = fleet();
    let prune = |filter: &str| store.carrack(["container", "prune", "--force", "--filter", filter]).success();
    prune("until=24h");
    prune("label=nothing");
    assert_eq!(names(&store, &["-a"]), "three two one");
    prune("label=team=sea");
    assert_eq!(names(&store, &["-a"]), "three two");
    store.carrack(["rm", "-f", "three"]).success();
}

#[test]
fn wait_knows_conditions_and_exists_answers() {
    let store = fleet();
    assert_eq!(store.carrack(["wait", "one"]).line(), "3");
    assert_eq!(store.carrack(["wait", "--condition", "running", "three"]).line(), "-1");
    assert_eq!(store.carrack(["wait", "--condition", "created,running", "two"]).line(), "-1");
    store.carrack(["wait", "--condition", "odd", "one"]).code(125);
    store.carrack(["wait", "absent"]).code(1);
    store.carrack(["wait", "--ignore", "absent"]).success();
    let mut removed = store.command();
    let waiting =
        removed.args(["wait", "--condition", "removed", "three"]).stdout(std::process::Stdio::piped());
    let waiting = waiting.spawn().unwrap();
    store.carrack(["container", "exists", "three"]).success();
    let descriptors = format!("/proc/{}/fd", waiting.id());
    let is_watch = |entry: std::fs::DirEntry| {
        std::fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().contains("inotify"))
    };
    eventually("it waits", || std::fs::read_dir(&descriptors).unwrap().flatten().any(is_watch));
    store.carrack(["rm", "-f", "three"]).success();
    assert!(waiting.wait_with_output().unwrap().status.success());
    store.carrack(["container", "exists", "three"]).code(1);
}

#[test]
fn info_and_version_have_dockers_fields() {
    let store = fleet();
    let counts = "{{.Containers}} {{.ContainersRunning}} {{.ContainersStopped}} {{.Images}}";
    assert_eq!(store.carrack(["info", "--format", counts]).line(), "3 1 2 1");
    let same = store.carrack(["system", "info", "--format", "{{.Driver}} {{.store.graphDriverName}}"]).line();
    let (docker, podman) = same.split_once(' ').unwrap();
    assert_eq!(docker, podman);
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    assert_eq!(store.carrack(["info", "--format", "{{.KernelVersion}}"]).line(), kernel);
    let text = store.carrack(["info"]).success().stdout;
    for line in ["Storage Driver: ", "Cgroup Version: ", "Security Options:\n name=seccomp", " Running: 1\n"]
    {
        assert!(text.contains(line), "{line} of {text}");
    }
    let version =
        store.carrack(["version", "--format", "{{.Server.Version}} {{.Client.KernelVersion}}"]).line();
    assert!(version.ends_with(&kernel), "{version}");
    store.carrack(["rm", "-f", "three"]).success();
}

#[test]
fn a_terminal_is_shown_what_it_would_act_on() {
    let store = store();
    let label = "note=\u{1b}[2J\u{9b}31m\u{7}";
    let create = ["create", "--name", "one", "--label", label, IMAGE, "true"];
    store.carrack(create).success();
    let list = ["ps", "--all", "--format", "{{.Labels}}"];
    assert_eq!(store.carrack(list).line(), label, "what is no terminal gets it as it is");
    let command = store.command();
    let program = std::iter::once(command.get_program()).chain(command.get_args());
    let program: Vec<_> = program.map(|word| word.to_str().unwrap()).collect();
    for arguments in
        ["ps --all --format '{{.Labels}}'", "ps --all --format 'table {{.Labels}}'", "events --stream=false"]
    {
        let line = format!("{} {arguments}", program.join(" "));
        let shown =
            Run::of(Command::new("script").args(["-qec", &line, "/dev/null"]), LIMIT).success().stdout;
        assert!(shown.contains(r"note=\u{1b}[2J\u{9b}31m\u{7}"), "{arguments}: {shown:?}");
        assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{7}']), "{arguments}: {shown:?}");
    }
}

#[test]
fn top_knows_podmans_users_and_groups() {
    let store = store();
    detached(&store, &["--name", "one"], UNTIL_TERM);
    let top = store.carrack(["top", "one", "ppid", "user", "group"]).success().stdout;
    let words: Vec<&str> = top.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(words, ["PPID", "USER", "GROUP"]);
    assert!(top.lines().nth(1).unwrap().contains("root"), "{top}");
    store.carrack(["rm", "--force", "one"]).success();
}
