//! Every kind of store passes the same suite.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use carrack_content::ContentStore;
use carrack_snapshot::suite::{CHECKS, Store};
use carrack_snapshot::{ErofsSnapshotter, OverlaySnapshotter, VfsSnapshotter};

/// Runs all checks, each on a new store that `open` makes in a folder below `place`.
fn pass<S: Store>(place: &Path, open: impl Fn(&Path, &ContentStore) -> S) {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        let folder = tempfile::tempdir_in(place).unwrap();
        let content = ContentStore::open(&folder.path().join("content")).unwrap();
        let root = folder.path().join("snapshots");
        let store = open(&root, &content);
        if catch_unwind(AssertUnwindSafe(|| check(&store, &content))).is_err() {
            failed.push(name);
        }
        drop(store);
        let left = fs::read_dir(root.join("staging")).unwrap().count();
        assert_eq!(left, 0, "{name}: staging/ is not empty");
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn erofs() {
    pass(&std::env::temp_dir(), |root, content| {
        let shares = root.parent().unwrap().join("shares");
        ErofsSnapshotter::open(root, content, Some(&shares)).unwrap()
    });
}

#[test]
fn overlay() {
    pass(&std::env::temp_dir(), |root, _| OverlaySnapshotter::open(root).unwrap());
}

#[test]
fn vfs() {
    // In memory: whole copies of 120 layers, each synced, say nothing about the store.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    pass(&place, |root, _| VfsSnapshotter::open(root).unwrap());
}
