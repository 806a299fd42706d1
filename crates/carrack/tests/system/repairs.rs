//! Damage beside the content and the snapshots in use: the stores of other drivers, names, volumes, leases, ranges of
//! ids, hints and events. Each is told, and repaired or left over, and nothing else is lost.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use carrack_testkit::Store;

use super::kit::{IMAGE, empty_store, run, store};
use super::{assert_clean, check, damaged_image, find_below, find_folders, flip_byte, pull_layout};

const OTHER: [&str; 2] = ["--storage-driver", "overlay"];

/// A store whose image was pulled by the best driver, with a container of another, `kept`, that prints what it has.
fn store_of_two_drivers() -> (Store, PathBuf) {
    let (store, image) = (empty_store(), damaged_image());
    pull_layout(&store, &image, "app");
    let script = "cat /one /two; cat /own 2> /dev/null || echo mine > /own";
    let create = ["create", "--name", "kept", "--network", "none", "app", "sh", "-c", script];
    store.carrack(OTHER.iter().chain(&create)).success();
    store.carrack(["start", "--attach", "kept"]).success();
    let committed = store.root().join("snapshots/overlay/committed");
    assert!(committed.is_dir(), "the machine's best driver is another than overlay");
    (store, committed)
}

#[track_caller]
fn assert_container_is_whole(store: &Store) {
    assert_eq!(store.carrack(["start", "--attach", "kept"]).success().stdout, "12mine\n");
}

/// What is broken, how, and what the check must say.
type Break<'a> = (&'a str, &'a dyn Fn(), &'a [&'a str]);

#[test]
fn snapshots_of_another_driver_are_made_anew() {
    let (store, committed) = store_of_two_drivers();
    assert_clean(&store);
    let file = |name: &str| find_below(&committed, &|path| path.ends_with(name)).pop().unwrap();
    let breaks: [Break<'_>; 4] = [
        ("content", &|| flip_byte(&file("fs/one")), &["one: other content", "of the driver overlay"]),
        ("record", &|| fs::remove_file(file("record.json")).unwrap(), &["it has no record", "stands on"]),
        (
            "folder",
            &|| fs::remove_dir_all(file("fs/two").parent().unwrap().parent().unwrap()).unwrap(),
            &["image ", "container-", "stands on"],
        ),
        ("stray", &|| fs::create_dir(committed.join("stray")).unwrap(), &["expected the name of a snapshot"]),
    ];
    for (what, harm, said) in breaks {
        harm();
        let found = check(&store, &[]).code(1).stdout;
        for word in said {
            assert!(found.contains(word), "{what}: {word:?} is not in: {found}");
        }
        // Even by force: what the container stands on comes back, and then nothing is wrong with it.
        let repaired = check(&store, &["--repair", "--force"]);
        assert_eq!(repaired.code, 0, "{what}: {}{}", repaired.stdout, repaired.stderr);
        assert_clean(&store);
        assert_container_is_whole(&store);
        assert_eq!(
            store.carrack(["run", "--rm", "--network", "none", "app", "cat", "/one", "/two"]).line(),
            "12"
        );
    }
    assert!(store.carrack(["images", "--quiet"]).line().lines().count() == 1, "the image keeps its name");
}

#[test]
fn a_container_of_another_driver_is_removed_by_force_only() {
    let (store, _) = store_of_two_drivers();
    let id = store.carrack(["inspect", "--format", "{{.Id}}", "kept"]).line();
    let [active] = &find_folders(&store.root().join("snapshots"), &format!("container-{id}"))[..] else {
        panic!("a container has one snapshot")
    };
    fs::remove_dir_all(active.join("fs")).unwrap();
    let found = check(&store, &["--quick"]).code(1).stdout;
    assert!(found.contains("it has no files") && found.contains("rm --force"), "{found}");
    check(&store, &["--repair"]).code(1);
    check(&store, &["--repair", "--force"]).success();
    assert_clean(&store);
    assert_eq!(store.carrack(["ps", "--all", "--quiet"]).line(), "");
    assert!(!active.exists());
}

#[test]
fn damaged_names_of_containers() {
    let store = store();
    for name in ["first", "second", "third"] {
        store.carrack(["create", "--name", name, "--network", "none", IMAGE, "echo", name]).success();
    }
    let names = store.root().join("container-names");
    fs::remove_file(names.join("first")).unwrap();
    fs::write(names.join("first"), "no link").unwrap();
    fs::remove_file(names.join("second")).unwrap();
    symlink("/etc", names.join("second")).unwrap();
    fs::write(names.join("-no name"), "").unwrap();
    symlink("short", names.join("nobody")).unwrap();
    let found = check(&store, &["--quick"]).code(1).stdout;
    for word in [
        "name (first) is damaged",
        "name (second) is damaged",
        "-no name: it is no name",
        "nobody: it is no name",
    ] {
        assert!(found.contains(word), "{word:?} is not in: {found}");
    }
    assert!(found.contains("Problems: 4") && !found.contains("Leftovers"), "{found}");
    // What a container has written is not garbage because its name is damaged.
    store.carrack(["builder", "prune"]).success();
    check(&store, &["--quick", "--repair"]).success();
    assert_clean(&store);
    for name in ["first", "second", "third"] {
        assert_eq!(store.carrack(["start", "--attach", name]).success().stdout, format!("{name}\n"));
    }
    store.carrack(["create", "--name", "nobody", IMAGE, "true"]).success();
}

#[test]
fn damaged_volumes_keep_their_content() {
    let store = store();
    let volumes = store.root().join("volumes");
    for name in ["record", "bare", "empty"] {
        store.carrack(["volume", "create", name]).success();
        let script = format!("echo {name} > /data/file");
        run(&store, &["--volume", &format!("{name}:/data")], &script).success();
    }
    fs::write(volumes.join("record/volume.json"), "{").unwrap();
    fs::remove_file(volumes.join("bare/volume.json")).unwrap();
    fs::remove_dir_all(volumes.join("empty/_data")).unwrap();
    fs::write(volumes.join("notes"), "mine").unwrap();
    let found = check(&store, &["--quick"]).code(1).stdout;
    for word in
        ["volume record: ", "volume bare: its record", "volume empty: the folder", "notes: it is no volume"]
    {
        assert!(found.contains(word), "{word:?} is not in: {found}");
    }
    let repaired = check(&store, &["--quick", "--repair"]).code(1).stdout;
    assert!(repaired.contains("Problems: 1") && volumes.join("notes").exists(), "{repaired}");
    for name in ["record", "bare", "empty"] {
        let flags = ["--volume", &format!("{name}:/data")];
        let output = run(&store, &flags, "cat /data/file 2> /dev/null || echo none").line();
        assert_eq!(output, if name == "empty" { "none" } else { name });
    }
    check(&store, &["--quick", "--repair", "--force"]).success();
    assert_clean(&store);
    assert!(!volumes.join("notes").exists());
    for name in ["record", "bare", "empty"] {
        store.carrack(["volume", "rm", name]).success();
    }
}

/// `network/<bridge>/<ADDRESS>` of a container that nobody has; no bridge of this name is in the kernel.
fn lease(container: &str, address: &str) -> String {
    format!(
        r#"{{"container":"{container}","bridge":"cgone0","interface":"eth0","address":"{address}","prefix":24,
            "gateway":"10.222.9.1","mac":"02:00:0a:de:09:07","ports":[],"host_interface":"vethgone0"}}"#
    )
}

#[test]
fn leases_and_ranges_of_nobody_are_left_over() {
    let store = store();
    store.carrack(["create", "--name", "here", IMAGE, "true"]).success();
    let id = store.carrack(["inspect", "--format", "{{.Id}}", "here"]).line();
    let (bridge, ranges) = (store.runroot().join("network/cgone0"), store.runroot().join("user-ranges"));
    fs::create_dir_all(&bridge).unwrap();
    fs::create_dir_all(&ranges).unwrap();
    let gone = "5".repeat(64);
    fs::write(bridge.join("10.222.9.7"), lease(&gone, "10.222.9.7")).unwrap();
    fs::write(bridge.join("10.222.9.8"), lease(&id, "10.222.9.8")).unwrap();
    fs::write(ranges.join(&gone), "1073741824 65536\n").unwrap();
    fs::write(ranges.join(&id), "1073807360 65536\n").unwrap();
    let found = check(&store, &["--quick"]).success().stdout;
    assert!(found.contains("Leftovers: 2 ("), "{found}");
    store.carrack(["system", "prune", "--force"]).success();
    // The prune has taken the container too, which did not run, and with it what was its own.
    let left = |folder: &Path| {
        let names =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "lock").collect::<Vec<_>>()
    };
    assert_eq!((left(&ranges), left(&bridge)), (vec![], vec![]));
    assert_clean(&store);
}

#[test]
fn leases_that_cannot_be_read_are_removed() {
    let store = store();
    let bridge = store.runroot().join("network/cgone0");
    fs::create_dir_all(&bridge).unwrap();
    fs::write(bridge.join("10.222.9.7"), "{").unwrap();
    fs::write(bridge.join("10.222.9.8"), lease(&"5".repeat(64), "10.222.9.9")).unwrap();
    fs::write(bridge.join("notes"), "").unwrap();
    fs::write(bridge.join("last"), "nonsense").unwrap();
    let found = check(&store, &["--quick"]).code(1).stdout;
    for word in ["10.222.9.7: ", "10.222.9.8: it is the lease of 10.222.9.9", "notes: its name is no address"]
    {
        assert!(found.contains(word), "{word:?} is not in: {found}");
    }
    check(&store, &["--quick", "--repair"]).success();
    assert_clean(&store);
    assert!(bridge.join("last").exists(), "it is only a hint");
}

#[test]
fn damaged_hints_of_layers_are_left_over() {
    let store = store();
    let origins = store.root().join("layer-origins");
    let sound = fs::read_dir(&origins).unwrap().count();
    fs::write(origins.join(format!("sha256-{}.json", "0".repeat(64))), "").unwrap();
    fs::create_dir(origins.join("folder")).unwrap();
    let found = check(&store, &["--quick"]).success().stdout;
    assert!(found.contains("Leftovers: 2 ("), "{found}");
    check(&store, &["--quick", "--repair"]).success();
    assert!(!check(&store, &[]).success().stdout.contains("Leftovers"));
    let left = fs::read_dir(&origins).unwrap().filter(|entry| entry.as_ref().unwrap().file_name() != "lock");
    assert!(left.count() <= sound);
}

#[test]
fn a_damaged_log_of_events_is_repaired() {
    let store = store();
    store.carrack(["create", "--name", "here", IMAGE, "true"]).success();
    let log = store.root().join("events/log");
    let mut bytes = fs::read(&log).unwrap();
    let sound = bytes.clone();
    bytes.extend_from_slice(b"{\"time\": \n\0\0\0\0");
    fs::write(&log, bytes).unwrap();
    let found = check(&store, &["--quick"]).code(1).stdout;
    assert!(found.contains("log of events: 2 lines are no events"), "{found}");
    check(&store, &["--quick", "--repair"]).success();
    assert_eq!(fs::read(&log).unwrap(), sound);
    assert_clean(&store);
}
