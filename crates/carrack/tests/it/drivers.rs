//! Storage drivers: each runs, a store is used under another than it was filled with, and snapshots are made by hand.

use std::fs;
use std::path::PathBuf;

use carrack_testkit::{ImageFixture, Store};

use crate::kit::{IMAGE, empty_store, host, store};

/// A run of the image under a driver.
#[track_caller]
fn run(store: &Store, driver: &str, script: &str) -> String {
    let flags = ["--storage-driver", driver, "run", "--rm", "--network", "none", IMAGE, "sh", "-c", script];
    store.carrack(flags).line()
}

#[test]
fn an_image_that_one_driver_pulled_runs_under_all() {
    let store = store();
    for driver in ["erofs", "overlay2", "vfs", "erofs"] {
        assert_eq!(run(&store, driver, "echo new > /file && cat /file"), "new", "{driver}");
    }
    let folders = ["erofs", "overlay", "vfs"].map(|driver| store.root().join("snapshots").join(driver));
    assert!(folders.iter().all(|folder| folder.is_dir()));
    store.carrack(["rmi", "--force", IMAGE]).success();
    for folder in folders {
        let left = fs::read_dir(folder.join("committed")).unwrap().count();
        assert_eq!(left, 0, "{}", folder.display());
    }
}

#[test]
fn a_driver_that_is_none_is_refused() {
    let refused = store().carrack(["--storage-driver", "zfs", "images"]).code(125);
    assert!(refused.stderr.contains("expected erofs, overlay or vfs"), "{}", refused.stderr);
}

#[test]
fn a_snapshot_is_made_changed_and_committed_by_hand() {
    let store = store();
    store.carrack(["snapshot", "prepare", "work", IMAGE]).success();
    let mounts = store.carrack(["snapshot", "mounts", "work"]).success();
    assert!(mounts.stdout.contains("overlay"), "{}", mounts.stdout);
    let list = store.carrack(["snapshot", "ls", "--format", "{{.Key}} {{.Kind}}"]).success();
    assert!(list.stdout.starts_with("work active\n"), "{}", list.stdout);
    let layer = store.path().join("layer.tar");
    let diff = ["snapshot", "diff", "--output", layer.to_str().unwrap(), "work"];
    store.carrack(diff).success();
    assert!(layer.is_file());
    let point = store.path().join("point");
    fs::create_dir(&point).unwrap();
    store.carrack(["snapshot", "mounts", "work", point.to_str().unwrap()]).success();
    fs::write(point.join("new"), "").unwrap();
    for verb in ["commit", "rm"] {
        let refused = store.carrack(["snapshot", verb, "work"]).code(1);
        assert!(refused.stderr.contains(&format!("umount {}", point.display())), "{}", refused.stderr);
    }
    host("umount", [&point]).success();
    let id = store.carrack(["snapshot", "commit", "work"]).line();
    // Nothing but the user's own wish keeps it.
    store.carrack(["builder", "prune"]).success();
    store.carrack(["snapshot", "view", "look", &id]).success();
    let refused = store.carrack(["snapshot", "rm", &id]).code(1);
    assert!(refused.stderr.contains("stands on it"), "{}", refused.stderr);
    store.carrack(["snapshot", "usage", &id, "look"]).success();
    store.carrack(["snapshot", "rm", "look", &id]).success();
    let left = store.carrack(["snapshot", "ls", "--quiet"]).success();
    assert!(!left.stdout.contains(&id), "{}", left.stdout);
}

#[test]
fn an_image_is_mounted_and_then_in_use() {
    let store = store();
    let path = PathBuf::from(store.carrack(["image", "mount", IMAGE]).line());
    assert!(path.join("bin").is_dir());
    assert!(fs::write(path.join("new"), "").is_err(), "it is read only");
    let list = store.carrack(["image", "mount"]).success();
    assert!(list.stdout.contains(path.to_str().unwrap()), "{}", list.stdout);
    let refused = store.carrack(["rmi", "--force", IMAGE]).code(1);
    assert!(refused.stderr.contains("in use by a mount"), "{}", refused.stderr);
    store.carrack(["image", "unmount", "--all"]).success();
    assert!(!path.exists());
    store.carrack(["rmi", "--force", IMAGE]).success();
}

#[test]
fn an_image_is_unpacked_into_a_folder() {
    let store = store();
    let folder = store.path().join("tree");
    store.carrack(["unpack", IMAGE, folder.to_str().unwrap()]).success();
    assert!(folder.join("bin").is_dir());
    let refused = store.carrack(["unpack", IMAGE, folder.to_str().unwrap()]).code(1);
    assert!(refused.stderr.contains("make room for the tree"), "{}", refused.stderr);
    let id = store.carrack(["images", "--quiet", "--no-trunc"]).line();
    for id in [&id[..], &id["sha256:".len()..], &id["sha256:".len()..][..12]] {
        let folder = store.path().join(id.len().to_string());
        store.carrack(["unpack", id, folder.to_str().unwrap()]).success();
        assert!(folder.join("bin").is_dir());
    }
}

#[test]
fn what_is_unpacked_rootless_belongs_to_the_user() {
    use std::os::unix::fs::MetadataExt;
    let store = empty_store();
    store.load(&ImageFixture::new().layer("/one 0644 7:8 \"1\"\n/two/ 0755 9:9"), "localhost/owned:1");
    for (flags, owners) in
        [(&["unpack"][..], [(7, 8), (9, 9)]), (&["unpack", "--rootless"][..], [(0, 0), (0, 0)])]
    {
        let folder = store.path().join(flags.join("-"));
        let arguments = flags.iter().copied().chain(["localhost/owned:1", folder.to_str().unwrap()]);
        store.carrack(arguments).success();
        let owner =
            |name: &str| fs::metadata(folder.join(name)).map(|file| (file.uid(), file.gid())).unwrap();
        assert_eq!([owner("one"), owner("two")], owners, "{flags:?}");
    }
}
