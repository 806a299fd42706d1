//! Volumes: made, filled from the image, shared, shown and removed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use carrack_oci::Empty;
use carrack_testkit::Store;

use crate::kit::{IMAGE, busybox, empty_store, run, store};
use crate::{UNTIL_TERM, detached, folder, inspect};

/// The content of a volume on the host.
fn data(store: &Store, name: &str) -> PathBuf {
    store.root().join("volumes").join(name).join("_data")
}

fn names(store: &Store) -> String {
    store.carrack(["volume", "ls", "--quiet"]).line()
}

/// A store with an image that has a volume at /data, with files in it that belong to others.
fn store_with_volume() -> Store {
    let store = empty_store();
    let image = busybox()
        .layer("/data/ 0750 7:8\n/data/of-image 0640 9:10 \"from the image\"\n/data/sub/ 0700 1:2\n/data/link -> /etc/passwd")
        .configure(|config| {
            config.config.volumes = Some([("/data".to_owned(), Empty::default())].into());
        });
    store.load(&image, IMAGE);
    store
}

#[test]
fn a_volume_is_made_listed_shown_and_removed() {
    let store = store();
    let created = store.carrack(["volume", "create", "--label", "team=web", "data"]).line();
    assert_eq!(created, "data");
    store.carrack(["volume", "create", "data"]).success();
    store.carrack(["volume", "create", "../x"]).code(1);
    store.carrack(["volume", "create", "--opt", "type=nfs", "--opt", "device=:/x", "far"]).code(1);
    assert_eq!(names(&store), "data");
    let format = "{{.Name}} {{.Driver}} {{.Scope}} {{.Labels.team}} {{.Mountpoint}}";
    let shown = store.carrack(["volume", "inspect", "--format", format, "data"]).line();
    assert_eq!(shown, format!("data local local web {}", data(&store, "data").display()));
    store.carrack(["volume", "exists", "data"]).success();
    store.carrack(["volume", "exists", "other"]).code(1);
    assert_eq!(store.carrack(["volume", "ls", "-q", "--filter", "label=team=db"]).line(), "");
    assert_eq!(store.carrack(["volume", "ls", "-q", "--filter", "dangling=true"]).line(), "data");
    store.carrack(["volume", "rm", "data"]).success();
    store.carrack(["volume", "rm", "data"]).code(1);
    store.carrack(["volume", "rm", "--force", "data"]).success();
    assert_eq!(names(&store), "");
}

#[test]
fn a_named_volume_outlives_containers_and_is_not_removed_while_one_has_it() {
    let store = store();
    run(&store, &["-v", "data:/data"], "echo -n kept >/data/file").success();
    assert_eq!(
        run(&store, &["-v", "data:/other:ro"], "cat /other/file; touch /other/x").code(1).stdout,
        "kept"
    );
    let id = detached(&store, &["--name", "holder", "-v", "data:/data"], UNTIL_TERM);
    let refused = store.carrack(["volume", "rm", "data"]).code(1);
    assert!(refused.stderr.contains("in use by container holder"), "{}", refused.stderr);
    store.carrack(["volume", "prune", "--all", "--force"]).success();
    store.carrack(["rm", "--force", "--volumes", &id]).success();
    assert_eq!(names(&store), "data", "it has a name of the user's");
    let usage =
        store.carrack(["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"]).success();
    assert!(usage.stdout.contains("Local Volumes 1 0"), "{}", usage.stdout);
    store.carrack(["system", "prune", "--force", "--volumes"]).success();
    assert_eq!(names(&store), "data");
    store.carrack(["volume", "prune", "--all", "--force"]).success();
    assert_eq!(names(&store), "");
}

#[test]
fn a_volume_begins_with_what_the_image_has_there() {
    let store = store_with_volume();
    run(&store, &["-v", "first:/data"], "echo more >/data/own; rm /data/of-image").success();
    let first = data(&store, "first");
    let look = fs::metadata(&first).unwrap();
    assert_eq!((look.mode() & 0o7777, look.uid(), look.gid()), (0o750, 7, 8));
    let sub = fs::metadata(first.join("sub")).unwrap();
    assert_eq!((sub.mode() & 0o7777, sub.uid(), sub.gid()), (0o700, 1, 2));
    assert_eq!(fs::read_link(first.join("link")).unwrap(), PathBuf::from("/etc/passwd"));
    let again = run(&store, &["-v", "first:/data"], "cat /data/own; test -e /data/of-image").code(1);
    assert_eq!(again.stdout, "more\n", "a volume with content stays as it is");
    run(&store, &["-v", "bare:/data:nocopy"], "test ! -e /data/of-image").success();
    run(&store, &["--mount", "type=volume,src=long,dst=/data,volume-nocopy"], "test ! -e /data/of-image")
        .success();
    assert_eq!(
        run(&store, &["--mount", "src=copied,dst=/data"], "cat /data/of-image").line(),
        "from the image"
    );
}

#[test]
fn volumes_of_the_image_are_the_containers_own_and_go_with_it() {
    let store = store_with_volume();
    assert_eq!(run(&store, &[], "cat /data/of-image; echo x >/data/x").line(), "from the image");
    assert_eq!(names(&store), "", "--rm takes them away");
    let id = store.carrack(["create", "--network", "none", "-v", "/own", IMAGE, "true"]).line();
    assert_eq!(names(&store).lines().count(), 2);
    assert_eq!(inspect(&store, &id, "{{json .Config.Volumes}}"), r#"{"/own":{},"/data":{}}"#);
    let mounts =
        inspect(&store, &id, "{{range .Mounts}}{{.Type}} {{.Destination}} {{.Driver}} {{.RW}};{{end}}");
    assert_eq!(mounts, "volume /own local true;volume /data local true;");
    let user = store
        .carrack([
            "create",
            "--network",
            "none",
            "--volumes-from",
            &format!("{id}:ro"),
            IMAGE,
            "touch",
            "/own/x",
        ])
        .line();
    let refused = store.carrack(["start", "--attach", &user]).code(1);
    assert!(refused.stderr.contains("Read-only"), "{}", refused.stderr);
    store.carrack(["rm", &id]).success();
    assert_eq!(names(&store).lines().count(), 2, "without --volumes they stay");
    store.carrack(["volume", "prune", "--force"]).success();
    assert_eq!(names(&store).lines().count(), 2, "the other container has them");
    store.carrack(["rm", "--volumes", &user]).success();
    store.carrack(["volume", "prune", "--force"]).success();
    assert_eq!(names(&store), "");
}

#[test]
fn volumes_of_the_driver_local_are_binds_and_memory() {
    let store = store();
    let host = folder(&store, "host", &[("file", "of the host")]);
    let device = format!("device={}", host.display());
    store
        .carrack(["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &device, "bound"])
        .success();
    assert_eq!(run(&store, &["-v", "bound:/b"], "cat /b/file; echo -n in >/b/new").line(), "of the host");
    assert_eq!(fs::read_to_string(host.join("new")).unwrap(), "in");
    store
        .carrack([
            "volume",
            "create",
            "--opt",
            "type=tmpfs",
            "--opt",
            "device=tmpfs",
            "--opt",
            "o=size=1m,mode=711",
            "memory",
        ])
        .success();
    let script = "stat -c %a /m; df -k /m | awk 'END { print $2 }'; echo x >/m/x";
    assert_eq!(run(&store, &["-v", "memory:/m"], script).line(), "711\n1024");
}

#[test]
fn a_part_of_a_volume_is_never_outside_it() {
    let store = store();
    run(&store, &["-v", "data:/data"], "mkdir -p /data/a/b; echo -n part >/data/a/b/file; ln -s / /data/out; ln -s ../../.. /data/up; ln -s /etc /data/etc").success();
    let part = |path: &str| format!("type=volume,src=data,dst=/part,volume-subpath={path}");
    assert_eq!(run(&store, &["--mount", &part("a/b")], "cat /part/file").line(), "part");
    // Links lead to places in the volume only.
    assert_eq!(
        run(&store, &["--mount", &part("out")], "ls /part").line(),
        run(&store, &["-v", "data:/d"], "ls /d").line()
    );
    assert_eq!(run(&store, &["--mount", &part("up/a")], "ls /part").line(), "b");
    for path in ["etc", "absent", "out/proc", "etc/passwd"] {
        run(&store, &["--mount", &part(path)], "true").code(125);
    }
    run(&store, &["--mount", &part("../x")], "true").code(125);
}

#[test]
fn a_check_names_volumes_that_are_missing_or_damaged() {
    let store = store();
    store.carrack(["volume", "create", "gone"]).success();
    store.carrack(["volume", "create", "damaged"]).success();
    store
        .carrack(["create", "--name", "user", "--network", "none", "-v", "gone:/g", IMAGE, "true"])
        .success();
    assert!(store.carrack(["system", "check", "--quick"]).success().stdout.contains("2 volumes"));
    fs::remove_dir_all(store.root().join("volumes/gone")).unwrap();
    fs::write(store.root().join("volumes/damaged/volume.json"), "{").unwrap();
    let found = store.carrack(["system", "check", "--quick"]).code(1).stdout;
    assert!(found.contains("container user: its volume gone") && found.contains("volume damaged"), "{found}");
    store.carrack(["rm", "user"]).success();
}

#[test]
fn what_a_crash_left_of_a_volume_is_swept() {
    let store = store();
    store.carrack(["volume", "create", "whole"]).success();
    for name in [".new-0123", ".removed-0123"] {
        fs::create_dir_all(store.root().join("volumes").join(name).join("_data/deep")).unwrap();
    }
    assert_eq!(names(&store), "whole");
    store.carrack(["system", "prune", "--force"]).success();
    let left: Vec<_> = fs::read_dir(store.root().join("volumes"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("0123")), "{left:?}");
    assert_eq!(names(&store), "whole");
}

#[test]
fn volumes_of_the_image_may_be_memory_or_nothing() {
    let store = store_with_volume();
    let kind = "stat -fc %T /data; ls /data; : > /data/x && echo writable";
    assert_eq!(run(&store, &["--image-volume", "tmpfs"], kind).line(), "tmpfs\nwritable");
    let ignored = run(&store, &["--image-volume=ignore"], kind).line();
    let is_of_image = ignored.contains("\nof-image\n") && ignored.ends_with("\nwritable");
    assert!(is_of_image && !ignored.starts_with("tmpfs"), "{ignored}");
    store.carrack(["create", "--image-volume", "ignore", IMAGE]).success();
    store.carrack(["create", "--image-volume", "tmpfs", IMAGE]).success();
    assert_eq!(names(&store), "", "none of them makes a volume");
    store.carrack(["create", "--image-volume", "bind", IMAGE]).success();
    assert_eq!(names(&store).lines().count(), 1);
    store.carrack(["create", "--image-volume", "disk", IMAGE]).code(125);
}

#[test]
fn inspect_finds_volumes_behind_containers_and_images() {
    let store = store();
    store.carrack(["volume", "create", "data"]).success();
    let format = ["--format", "{{.Name}} {{.Driver}}", "data"];
    assert_eq!(store.carrack([&["inspect"], &format[..]].concat()).line(), "data local");
    assert_eq!(store.carrack([&["inspect", "--type", "volume"], &format[..]].concat()).line(), "data local");
    store.carrack(["inspect", "--type", "container", "data"]).code(1);
    for absent in ["nothing", "no/volume:name"] {
        let run = store.carrack(["inspect", absent]).code(1);
        assert!(run.stderr.contains("no such object"), "{}", run.stderr);
    }
}
