//! The overlay store: the suite, and what is its own (crashes, several processes, mounts).

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use carrack_layer::DiffOptions;
use carrack_oci::{ChainId, Digest};
use carrack_snapshot::suite::{entry, layer};
use carrack_snapshot::{Error, LayerUnpacker, Mount, OverlaySnapshotter, SnapshotKey, Snapshotter};

fn store() -> (tempfile::TempDir, OverlaySnapshotter) {
    let folder = tempfile::tempdir().unwrap();
    let store = OverlaySnapshotter::open(&folder.path().join("snapshots")).unwrap();
    (folder, store)
}

fn add_layer(store: &OverlaySnapshotter, parent: Option<&ChainId>, paths: &[&str]) -> ChainId {
    let bytes = layer(&paths.iter().map(|path| entry(path)).collect::<Vec<_>>());
    let unpacked = store.unpack(&SnapshotKey::unique("layer"), &mut bytes.as_slice(), None).unwrap();
    let id = ChainId::child(parent, unpacked.diff_id());
    store.stack(unpacked, parent, &id).unwrap();
    id
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_a_crash_left_is_removed_but_not_what_is_in_the_making() {
    let (folder, store) = store();
    let root = folder.path().join("snapshots");
    let unpacked =
        store.unpack(&SnapshotKey::unique("layer"), &mut layer(&[entry("file")]).as_slice(), None).unwrap();
    fs::create_dir_all(root.join("staging/left-by-a-crash/fs/a/b")).unwrap();
    OverlaySnapshotter::open(&root).unwrap();
    assert_eq!(names(&root.join("staging")).len(), 2, "somebody is at work there");
    store.stack(unpacked, None, &ChainId(Digest::of(b"id"))).unwrap();
    OverlaySnapshotter::open(&root).unwrap();
    assert!(names(&root.join("staging")).is_empty());
    assert_eq!(names(&root.join("committed")).len(), 1);
}

#[test]
fn many_may_stack_build_on_and_remove_the_same_at_once() {
    let (folder, _) = store();
    let root = folder.path().join("snapshots");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = OverlaySnapshotter::open(&root).unwrap();
                for _ in 0..20 {
                    let base = add_layer(&store, None, &["a/b/file"]);
                    let key = SnapshotKey::unique("work");
                    // Another thread may have removed the layer, but what was prepared keeps it.
                    if let Ok(mount) = store.prepare(&key, Some(&base)) {
                        assert!(mount.open_root().unwrap().metadata("a/b/file").unwrap().is_some());
                        assert!(matches!(store.remove(&base), Err(Error::InUse { .. })));
                        store.discard(&key).unwrap();
                    }
                    let _ = store.remove(&base);
                }
            });
        }
    });
    assert!(names(&root.join("staging")).is_empty());
    assert!(names(&root.join("active")).is_empty());
}

#[test]
fn mounts_are_in_no_mount_namespace() {
    let (folder, store) = store();
    let base = add_layer(&store, None, &["file"]);
    let mount = store.prepare(&SnapshotKey::unique("work"), Some(&base)).unwrap().open().unwrap();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(folder.path().to_str().unwrap()), "{table}");
    assert!(rustix::fs::statat(mount.as_fd(), "file", rustix::fs::AtFlags::empty()).is_ok());
}

#[test]
fn the_upper_folder_has_all_that_changed() {
    let (_folder, store) = store();
    let base = add_layer(&store, None, &["etc/", "etc/a", "etc/b", "var/", "var/log/", "var/log/x"]);
    let key = SnapshotKey::unique("work");
    let root = store.prepare(&key, Some(&base)).unwrap().volatile().open_root().unwrap();
    root.at("etc/a").unwrap().remove().unwrap();
    root.at("etc/new").unwrap().create_file(0o640).unwrap().write_all(b"text").unwrap();
    root.at("etc/b").unwrap().set_mode(0o600).unwrap();
    root.at("var").unwrap().remove_all().unwrap();
    root.at("var").unwrap().create_dir(0o700).unwrap();
    assert!(
        root.at("etc").unwrap().rename(&root.at("moved").unwrap(), false).is_err(),
        "folders are not redirected"
    );
    drop(root);
    let mut tar = Vec::new();
    let summary = store.diff(&key, &DiffOptions::default(), &mut tar).unwrap();
    let mut reader = carrack_layer::tar::Reader::new(tar.as_slice());
    let mut paths = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        paths.push(entry.path.to_str().unwrap().to_owned());
    }
    assert_eq!(paths, ["etc", "etc/.wh.a", "etc/b", "etc/new", "var", "var/.wh..wh..opq"]);
    // The layer on the same base shows what the active snapshot showed.
    let unpacked = store.unpack(&SnapshotKey::unique("layer"), &mut tar.as_slice(), None).unwrap();
    assert_eq!(unpacked.diff_id(), &summary.diff_id);
    let id = ChainId::child(Some(&base), &summary.diff_id);
    store.stack(unpacked, Some(&base), &id).unwrap();
    let view = store.view(&SnapshotKey::unique("view"), &id).unwrap().open_root().unwrap();
    assert_eq!(view.read_small("etc/new", 100).unwrap().unwrap(), b"text");
    assert_eq!(view.read_small("etc/b", 100).unwrap().unwrap(), b"etc/b");
    assert_eq!(view.metadata("etc/b").unwrap().unwrap().mode, 0o600);
    assert!(view.metadata("etc/a").unwrap().is_none());
    assert!(view.metadata("var/log").unwrap().is_none());
}

#[test]
fn a_volatile_mount_can_be_made_again() {
    let (_folder, store) = store();
    let base = add_layer(&store, None, &["file"]);
    let mount = store.prepare(&SnapshotKey::unique("work"), Some(&base)).unwrap().volatile();
    for _ in 0..2 {
        drop(mount.open().unwrap());
    }
}

#[test]
fn odd_paths_of_the_store_are_no_mount_options() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a:b,c\\d=e ").join("x".repeat(200)).join("y".repeat(200));
    let store = OverlaySnapshotter::open(&root).unwrap();
    let base = add_layer(&store, None, &["file"]);
    let root = store.prepare(&SnapshotKey::unique("work"), Some(&base)).unwrap().open_root().unwrap();
    assert!(root.metadata("file").unwrap().is_some());
}

#[test]
fn a_bind_can_be_read_only() {
    let folder = tempfile::tempdir().unwrap();
    for read_only in [false, true] {
        let root = Mount::Bind { source: folder.path().to_owned(), read_only }.open_root().unwrap();
        assert_eq!(root.at("file").unwrap().create_dir(0o755).is_err(), read_only);
        root.at("file").unwrap().remove().ok();
    }
}

#[test]
fn the_store_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, _store) = store();
    assert_eq!(fs::metadata(folder.path().join("snapshots")).unwrap().permissions().mode() & 0o777, 0o700);
}
