//! `commit` and `export`: images and tars of containers that run or have run.

use std::fs;
use std::path::PathBuf;

use carrack_testkit::{Registry, Store};

use crate::kit::{CARRACK, IMAGE, empty_store, host, id, store, with_input};
use crate::{detached, eventually, folder};

const NAME: &str = "localhost/committed:1";

#[track_caller]
fn commit(store: &Store, arguments: &[&str]) -> String {
    store.carrack([&["commit", "--quiet"], arguments].concat()).line()
}

/// A container that has ended after SCRIPT.
#[track_caller]
fn ended(store: &Store, flags: &[&str], script: &str) -> String {
    let container = detached(store, flags, script);
    store.carrack(["wait", &container]).success();
    container
}

#[track_caller]
fn layers(store: &Store, image: &str) -> Vec<String> {
    let text =
        store.carrack(["inspect", "--type", "image", "--format", "{{json .RootFS.Layers}}", image]).line();
    serde_json::from_str(&text).unwrap()
}

/// The names in the topmost layer of an image that was made here.
#[track_caller]
fn names_in_top_layer(store: &Store, image: &str) -> Vec<String> {
    let file = store.path().join("saved.tar");
    store.carrack(["save", "-o", file.to_str().unwrap(), image]).success();
    let top = layers(store, image).pop().unwrap().replace("sha256:", "blobs/sha256/");
    let script = format!("tar -xOf {} {top} | tar -tf -", file.display());
    let listed = host("sh", ["-c", &script]).success();
    listed.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn a_layer_has_what_was_changed_and_nothing_that_the_engine_made() {
    let store = store();
    let bind = folder(&store, "bind", &[("inside", "of the host")]);
    let volume = format!("{}:/data/deep/bind", bind.display());
    let file = format!("{}:/etc/one/two.conf", bind.join("inside").display());
    let flags = ["-v", &volume, "-v", &file, "--tmpfs", "/scratch"];
    let script =
        "echo ahoy > /greeting; rm /bin/vi; mkdir -p /srv/own; echo x > /scratch/x; echo y > /data/deep/y";
    let container = ended(&store, &flags, script);
    commit(&store, &[&container, NAME]);
    let mut names = names_in_top_layer(&store, NAME);
    names.retain(|name| name != "bin/");
    let expected = ["bin/.wh.vi", "data/", "data/deep/", "data/deep/y", "greeting", "srv/", "srv/own/"];
    assert_eq!(names, expected);
    let output = store.carrack(["run", "--rm", "--network", "none", NAME, "cat", "/greeting"]);
    assert_eq!(output.line(), "ahoy");
    commit(&store, &["--squash", &container, NAME]);
    let names = names_in_top_layer(&store, NAME);
    assert_eq!(layers(&store, NAME).len(), 1);
    assert!(
        names.contains(&"bin/busybox".to_owned()) && names.contains(&"data/deep/y".to_owned()),
        "{names:?}"
    );
    let hidden = ["bin/vi", "bin/.wh.vi", "scratch/", "etc/one/", "etc/hosts", "data/deep/bind/", "proc/"];
    assert!(!names.iter().any(|name| hidden.contains(&name.as_str())), "{names:?}");
    assert_eq!(store.carrack(["run", "--rm", "--network", "none", NAME, "cat", "/greeting"]).line(), "ahoy");
}

fn shell_words(store: &Store, arguments: &[&str]) -> Vec<String> {
    let command = store.command();
    let own = command.get_args().map(|word| word.to_str().unwrap().to_owned());
    own.chain(arguments.iter().map(|word| (*word).to_owned())).collect()
}

#[test]
fn the_config_is_how_it_was_run_with_changes() {
    let store = store();
    let flags = ["-e", "A=1", "-u", "65534", "-w", "/tmp", "--label", "own=label"];
    let container = ended(&store, &flags, "true");
    let changes =
        ["-c", "ENV B=2", "-c", "CMD [\"/bin/true\"]", "-c", "EXPOSE 80", "-c", "LABEL further=one"];
    let words = ["--author", "the captain", "--message", "a remark", &container, NAME];
    commit(&store, &[&changes[..], &words].concat());
    let show =
        |template: &str| store.carrack(["inspect", "--type", "image", "--format", template, NAME]).line();
    let env = show("{{json .Config.Env}}");
    assert!(env.contains("\"A=1\"") && env.contains("\"B=2\"") && env.contains("\"PATH="), "{env}");
    assert_eq!(
        show("{{json .Config.Cmd}} {{.Config.User}} {{.Config.WorkingDir}}"),
        "[\"/bin/true\"] 65534 /tmp"
    );
    assert_eq!(show("{{index .Config.Labels \"own\"}} {{index .Config.Labels \"further\"}}"), "label one");
    assert_eq!(show("{{json .Config.ExposedPorts}} {{.Author}}"), "{\"80/tcp\":{}} the captain");
    let history =
        store.carrack(["history", "--format", "{{.CreatedBy}}|{{.Comment}}", NAME]).success().stdout;
    assert!(history.starts_with("sh -c true|a remark\n"), "{history}");
    let refused = store.carrack(["commit", "-c", "RUN true", &container, "localhost/bad:1"]).code(1);
    assert!(refused.stderr.contains("RUN true"), "{}", refused.stderr);
    assert!(!store.carrack(["images"]).success().stdout.contains("localhost/bad"));
}

#[test]
fn equal_changes_give_equal_images_and_no_change_gives_no_layer() {
    let store = store();
    let container = detached(&store, &[], "echo 1 > /one; while true; do sleep 1; done");
    eventually("the file is there", || store.carrack(["exec", &container, "cat", "/one"]).code == 0);
    let first = commit(&store, &["--timestamp", "1000000000", &container]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(commit(&store, &["--timestamp", "1000000000", "--pause=false", &container]), first);
    store.carrack(["kill", &container]).success();
    store.carrack(["wait", &container]).success();
    assert_eq!(commit(&store, &["--timestamp", "1000000000", &container]), first, "it has ended");
    let idle = ended(&store, &[], "true");
    let same = commit(&store, &[&idle]);
    assert_eq!(layers(&store, &same), layers(&store, IMAGE));
}

/// `cgroup.events` of a container on a host with a v2 tree.
fn cgroup_events(container: &str) -> Option<PathBuf> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().find_map(|root| {
        let file = PathBuf::from(root).join("carrack").join(container).join("cgroup.events");
        file.exists().then_some(file)
    })
}

#[test]
fn a_container_goes_on_after_a_commit_that_failed_or_was_killed() {
    let store = store();
    let script = "dd if=/dev/zero of=/large bs=1M count=2; echo ready; while true; do sleep 1; done";
    let container = detached(&store, &[], script);
    eventually("it is ready", || store.carrack(["logs", &container]).success().stdout.contains("ready"));
    let Some(events) = cgroup_events(&container) else { return };
    let is_frozen = || fs::read_to_string(&events).unwrap().contains("frozen 1");
    let words = shell_words(&store, &["commit", &container]).join(" ");
    // A file may be no longer than this: without a handler the signal kills, ignored it is an error of the write.
    let failed = host("sh", ["-c", &format!("trap '' XFSZ; ulimit -f 512; exec {CARRACK} {words}")]).code(1);
    assert!(failed.stderr.contains("cannot commit container"), "{}", failed.stderr);
    assert!(!is_frozen(), "a failed commit lets the container go on");
    let killed = host("sh", ["-c", &format!("ulimit -f 512; exec {CARRACK} {words}")]);
    assert_ne!(killed.code, 0);
    assert!(is_frozen(), "it was killed while the container stood still");
    assert_eq!(
        store.carrack(["exec", &container, "echo", "ahoy"]).line(),
        "ahoy",
        "the next command lets it go on"
    );
    assert!(!is_frozen());
    let killed = host("sh", ["-c", &format!("ulimit -f 512; exec {CARRACK} {words}")]);
    assert!(killed.code != 0 && is_frozen());
    store.carrack(["ps"]).success();
    assert!(!is_frozen(), "a command that looks at all containers does too");
    commit(&store, &[&container, NAME]);
    assert!(!is_frozen());
    store.carrack(["rm", "--force", &container]).success();
}

#[test]
fn a_commit_goes_straight_to_a_registry() {
    let (registry, store, there) = (Registry::start(CARRACK), store(), empty_store());
    let container = ended(&store, &[], "echo ahoy > /greeting");
    let name = format!("{}/app:1", registry.address());
    let before = store.carrack(["images", "-q"]).line();
    let image = commit(&store, &[&container, &format!("docker://{name}")]);
    assert_eq!(store.carrack(["images", "-q"]).line(), before, "nothing is named here");
    there.carrack(["pull", &name]).success();
    assert_eq!(id(&there, &name), image);
    assert_eq!(there.carrack(["run", "--rm", "--network", "none", &name, "cat", "/greeting"]).line(), "ahoy");
    let layout = store.path().join("layout");
    let target = format!("oci:{}:1", layout.display());
    commit(&store, &["--format", "docker", &container, &target]);
    let index = fs::read_to_string(layout.join("index.json")).unwrap();
    assert!(index.contains("application/vnd.docker.distribution.manifest.v2+json"), "{index}");
    let refused = store.carrack(["commit", &container, "docker://127.0.0.1:1/app"]).code(1);
    assert!(refused.stderr.contains("127.0.0.1:1"), "{}", refused.stderr);
    assert_eq!(store.carrack(["images", "-q"]).line(), before);
}

#[test]
fn an_export_is_the_same_while_it_runs_and_after_and_can_be_imported() {
    let store = store();
    let bind = folder(&store, "bind", &[("inside", "of the host")]);
    let volume = format!("{}:/data", bind.display());
    let script = "echo ahoy > /greeting; echo ready; trap 'exit 0' TERM; while true; do sleep 0.1; done";
    let container = detached(&store, &["-v", &volume], script);
    eventually("it is ready", || store.carrack(["logs", &container]).success().stdout.contains("ready"));
    let (running, stopped) = (store.path().join("running.tar"), store.path().join("stopped.tar"));
    store.carrack(["export", "-o", running.to_str().unwrap(), &container]).success();
    store.carrack(["stop", &container]).success();
    store.carrack(["export", "--output", stopped.to_str().unwrap(), &container]).success();
    let bytes = fs::read(&running).unwrap();
    assert!(bytes == fs::read(&stopped).unwrap());
    let listed = host("tar", ["-tf", running.to_str().unwrap()]).success().stdout;
    assert!(
        listed.contains("greeting\n") && listed.contains("data/\n") && !listed.contains("inside"),
        "{listed}"
    );
    let mut import = store.command();
    import.args(["import", "-q", "-m", "from a container", "-c", "CMD cat /greeting", "-", NAME]);
    let (code, _, errors) = with_input(&mut import, &bytes);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(store.carrack(["run", "--rm", "--network", "none", NAME]).line(), "ahoy");
    assert!(store.carrack(["history", NAME]).success().stdout.contains("from a container"));
    store.carrack(["export", "absentee"]).code(1);
}

#[test]
fn exposed_ports_and_own_volumes_are_of_the_image() {
    let store = store();
    let flags = ["create", "--name", "one", "--expose", "99/udp", "-p", "127.0.0.1::80", "-v", "/own", "-v"];
    store.carrack(flags.into_iter().chain(["named:/named", IMAGE])).success();
    commit(&store, &["one", NAME]);
    let config = |field: &str| {
        let format = format!("{{{{json .Config.{field}}}}}");
        store.carrack(["inspect", "--type", "image", "--format", &format, NAME]).line()
    };
    assert_eq!(config("ExposedPorts"), r#"{"80/tcp":{},"99/udp":{}}"#);
    assert_eq!(config("Volumes"), r#"{"/own":{}}"#);
    store.carrack(["rm", "-v", "one"]).success();
}
