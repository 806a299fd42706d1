//! The erofs store: what is its own (merged images, shared mounts, links between layers, crashes).

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use carrack_content::ContentStore;
use carrack_layer::Limits;
use carrack_layer::tar::{Entry, EntryKind};
use carrack_oci::ChainId;
use carrack_snapshot::suite::{entry, layer};
use carrack_snapshot::{
    ErofsSnapshotter, Holds, Kept, LayerUnpacker, Lower, Mount, Opening, SnapshotKey, Snapshots, Snapshotter,
};

struct Fixture {
    folder: tempfile::TempDir,
    content: ContentStore,
    store: ErofsSnapshotter,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let content = ContentStore::open(&folder.path().join("content")).unwrap();
    let (root, shares) = (folder.path().join("erofs"), folder.path().join("shares"));
    let store = ErofsSnapshotter::open(&root, &content, Some(&shares)).unwrap();
    Fixture { folder, content, store }
}

fn add(store: &ErofsSnapshotter, parent: Option<&ChainId>, entries: &[Entry]) -> ChainId {
    let bytes = layer(entries);
    let unpacked = store.unpack(&SnapshotKey::unique("layer"), &mut bytes.as_slice(), None).unwrap();
    let id = ChainId::child(parent, unpacked.diff_id());
    store.stack(unpacked, parent, &id).unwrap();
    id
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

fn images(mount: &Mount) -> usize {
    match mount {
        Mount::Overlay { lowers, .. } => {
            lowers.iter().filter(|lower| matches!(lower, Lower::Image(_))).count()
        }
        Mount::Image(_) => 1,
        Mount::Bind { .. } => 0,
    }
}

#[test]
fn a_sealed_stack_is_one_image_and_more_layers_stand_on_it() {
    let Fixture { folder, store, .. } = fixture();
    let base = add(&store, None, &[entry("base")]);
    let top = add(&store, Some(&base), &[entry("top")]);
    assert_eq!(images(&store.prepare(&SnapshotKey::unique("a"), Some(&top)).unwrap()), 2);
    store.seal(&top).unwrap();
    assert_eq!(images(&store.prepare(&SnapshotKey::unique("a"), Some(&top)).unwrap()), 1);
    let mut parent = top;
    for number in 1..=10 {
        parent = add(&store, Some(&parent), &[entry(&format!("more-{number}"))]);
        let mount = store.prepare(&SnapshotKey::unique("a"), Some(&parent)).unwrap();
        let expected = if number <= 8 { number + 1 } else { 1 + (number - 9) };
        assert_eq!(images(&mount), expected, "{number} layers on a merged image");
        let root = mount.open_root().unwrap();
        assert!(root.metadata("base").unwrap().is_some());
        assert!(root.metadata(format!("more-{number}")).unwrap().is_some());
    }
    assert_eq!(count(&folder.path().join("erofs/merged")), 2);
    store.collect(&Kept::default()).unwrap();
    for left in ["merged", "layers", "committed", "active", "staging"] {
        assert_eq!(count(&folder.path().join("erofs").join(left)), 0, "{left}");
    }
}

#[test]
fn a_link_to_a_file_of_a_lower_layer_is_that_file() {
    let Fixture { folder: _folder, store, .. } = fixture();
    let base = add(&store, None, &[entry("dir/"), entry("dir/file")]);
    let kind = EntryKind::Hardlink { target: "dir/file".into() };
    let top = add(&store, Some(&base), &[Entry { kind, size_bytes: 0, ..entry("link") }]);
    let root = store.prepare(&SnapshotKey::unique("a"), Some(&top)).unwrap().open_root().unwrap();
    let (file, link) = (root.metadata("dir/file").unwrap().unwrap(), root.metadata("link").unwrap().unwrap());
    assert_eq!((file.inode.1, file.links), (link.inode.1, 2));
    assert_eq!(root.read_small("link", 100).unwrap().unwrap(), b"dir/file");
}

#[test]
fn layers_that_are_too_many_names_for_one_image_are_stacked_unless_they_have_links() {
    let Fixture { folder, store, .. } = fixture();
    let store = store.with_merge_limits(Limits { entries: 4, ..Limits::default() });
    let merged = folder.path().join("erofs/merged");
    let base = add(&store, None, &[entry("a"), entry("b"), entry("gone")]);
    let top = add(&store, Some(&base), &[entry("c"), entry("d"), entry(".wh.gone")]);
    store.seal(&top).unwrap();
    assert_eq!(count(&merged), 1, "a mark says that it cannot be merged");
    let mark = fs::read_dir(&merged).unwrap().next().unwrap().unwrap();
    assert!(mark.file_name().to_string_lossy().ends_with(".too-large"), "{mark:?}");
    let made = mark.metadata().unwrap().modified().unwrap();
    for mount in [
        store.prepare(&SnapshotKey::unique("a"), Some(&top)).unwrap(),
        store.view(&SnapshotKey::unique("b"), &top).unwrap(),
    ] {
        assert_eq!(images(&mount), 2);
        let root = mount.open_root().unwrap();
        for name in ["a", "b", "c", "d"] {
            assert!(root.metadata(name).unwrap().is_some(), "{name}");
        }
        assert!(root.metadata("gone").unwrap().is_none());
    }
    assert_eq!(mark.metadata().unwrap().modified().unwrap(), made, "nobody has tried again");
    assert!(store.check().unwrap().is_empty() && store.staged().unwrap().is_empty());

    let kind = EntryKind::Hardlink { target: "a".into() };
    let linked = add(&store, Some(&top), &[Entry { kind, size_bytes: 0, ..entry("link") }]);
    for _ in 0..2 {
        let error = store.seal(&linked).unwrap_err().to_string();
        assert!(error.contains("hardlinks to files of other layers"), "{error}");
        let error = store.prepare(&SnapshotKey::unique("c"), Some(&linked)).unwrap_err().to_string();
        assert!(error.contains("more entries than one index can have"), "{error}");
    }
    store.collect(&Kept::default()).unwrap();
    assert_eq!(count(&merged), 0);
}

#[test]
fn processes_that_stay_share_one_mount_of_an_image() {
    let Fixture { folder, store, .. } = fixture();
    let base = add(&store, None, &[entry("file")]);
    let view = store.view(&SnapshotKey::unique("view"), &base).unwrap();
    let device = |mount: &Mount| rustix::fs::fstat(mount.open().unwrap().as_fd()).unwrap().st_dev;
    let alone = view.open().unwrap();
    let alone_device = rustix::fs::fstat(&alone).unwrap().st_dev;
    assert_ne!(device(&view), alone_device, "nobody offers one: each is new");
    let mut holds = Holds::default();
    let held = view.open_with(Opening { holds: Some(&mut holds), ..Opening::default() }).unwrap();
    let expected = rustix::fs::fstat(&held).unwrap().st_dev;
    drop(held);
    assert_eq!(device(&view), expected);
    let mut others = Holds::default();
    let other = view.open_with(Opening { holds: Some(&mut others), ..Opening::default() }).unwrap();
    drop(holds);
    assert_eq!(device(&view), expected, "the other still holds it");
    drop(others);
    assert_ne!(device(&view), expected, "what is still mounted is not offered any more");
    drop((alone, other));
    assert_eq!(count(&folder.path().join("shares")), 1, "the lock is all that is left");
}

#[test]
fn announcements_of_the_dead_are_removed_and_lies_are_not_believed() {
    let Fixture { folder, store, .. } = fixture();
    let base = add(&store, None, &[entry("file")]);
    let view = store.view(&SnapshotKey::unique("view"), &base).unwrap();
    let Mount::Image(image) = &view else { panic!("a view of one layer is its image: {view:?}") };
    let shares = image.shares.clone().unwrap();
    fs::create_dir_all(&shares).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let boot = boot.split('-').next().unwrap();
    let pid = std::process::id();
    for name in [format!("{pid}-1-{boot}-0"), format!("999999999-1-{boot}-5"), "nonsense".to_owned()] {
        fs::write(shares.join(name), "").unwrap();
    }
    assert!(view.open_root().unwrap().metadata("file").unwrap().is_some());
    assert_eq!(count(&shares), 0);
    assert!(folder.path().join("shares").is_dir());
}

#[test]
fn an_index_that_is_lost_is_made_again_from_the_tar() {
    let Fixture { folder, store, content } = fixture();
    let base = add(&store, None, &[entry("file")]);
    let indexes = folder.path().join("erofs/layers");
    for index in fs::read_dir(&indexes).unwrap() {
        fs::remove_dir_all(index.unwrap().path()).unwrap();
    }
    let root = store.prepare(&SnapshotKey::unique("a"), Some(&base)).unwrap().open_root().unwrap();
    assert_eq!(root.read_small("file", 100).unwrap().unwrap(), b"file");
    assert_eq!(count(&indexes), 1);
    assert_eq!(store.tars_of(&base).unwrap().len(), 1);
    assert_eq!(content.list().unwrap().len(), 1);
}

#[test]
fn a_record_that_a_loss_of_power_emptied_makes_room() {
    let Fixture { folder, store, .. } = fixture();
    let base = add(&store, None, &[entry("file")]);
    for record in fs::read_dir(folder.path().join("erofs/committed")).unwrap() {
        fs::write(record.unwrap().path().join("record.json"), "").unwrap();
    }
    assert!(!store.contains(&base).unwrap());
    assert!(store.list().unwrap().is_empty());
    assert_eq!(add(&store, None, &[entry("file")]), base);
    assert!(store.contains(&base).unwrap());
}

#[test]
fn four_layers_at_once_are_all_indexed() {
    let Fixture { folder: _folder, store, .. } = fixture();
    let ids: Vec<_> = std::thread::scope(|scope| {
        let add = |number: usize| {
            let entries: Vec<_> =
                (0..2000).map(|file| entry(&format!("layer-{number}/file-{file}"))).collect();
            add(&store, None, &entries)
        };
        let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || add(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (number, id) in ids.iter().enumerate() {
        let root = store.prepare(&SnapshotKey::unique("a"), Some(id)).unwrap().open_root().unwrap();
        let path = format!("layer-{number}/file-1999");
        assert_eq!(root.read_small(&path, 100).unwrap().unwrap(), path.as_bytes());
    }
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = carrack_layer::tar::Writer::new(Vec::new());
    for (name, bytes) in files {
        tar.append(&Entry { size_bytes: bytes.len() as u64, ..entry(name) }, *bytes).unwrap();
    }
    tar.finish().unwrap()
}

fn add_tar(store: &ErofsSnapshotter, parent: Option<&ChainId>, tar: &[u8]) -> ChainId {
    let unpacked = store.unpack(&SnapshotKey::unique("layer"), &mut &tar[..], None).unwrap();
    let id = ChainId::child(parent, unpacked.diff_id());
    store.stack(unpacked, parent, &id).unwrap();
    store.seal(&id).unwrap();
    id
}

/// Bytes that no other seed gives, of a length that is no multiple of anything.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let word = |number: usize| (seed * 0x9e37_79b9 + number as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (0..length).map(|number| (word(number) >> 32) as u8).collect()
}

#[track_caller]
fn assert_files(store: &ErofsSnapshotter, id: &ChainId, files: &[(&str, &[u8])]) {
    for mount in [
        store.view(&SnapshotKey::unique("view"), id).unwrap(),
        store.prepare(&SnapshotKey::unique("active"), Some(id)).unwrap(),
    ] {
        let root = mount.open_root().unwrap();
        for (name, bytes) in files {
            assert!(root.read_small(name, 1 << 30).unwrap().unwrap() == *bytes, "{name}");
        }
    }
}

fn allocated(folder: &Path) -> u64 {
    carrack_sys::tree::allocated_bytes(folder).unwrap()
}

#[test]
fn the_next_version_of_an_app_shares_the_files_that_are_the_same() {
    let Fixture { folder, content, store } = fixture();
    let (big, same, small) = (noise(1, 3_000_001), noise(2, 20_011), noise(3, 600));
    let (old, new) = (noise(4, 200_000), noise(5, 200_000));
    // What differs at its end only is found out late.
    let mut late = big.clone();
    *late.last_mut().unwrap() ^= 1;
    let base = add_tar(&store, None, &tar_of(&[("base", &noise(6, 9000))]));
    let first_files =
        [("a/big", &big[..]), ("same", &same), ("small", &small), ("other", &old), ("late", &big)];
    let first = add_tar(&store, Some(&base), &tar_of(&first_files));
    let before = allocated(folder.path());
    let second_files =
        [("new", &new[..]), ("a/big", &big), ("other", &new), ("late", &late), ("same", &same)];
    let second_tar = tar_of(&second_files);
    let second = add_tar(&store, Some(&base), &second_tar);
    let grown = allocated(folder.path()) - before;
    assert!(grown < (2 * new.len() + late.len()) as u64 + 100_000, "{grown} bytes more");
    assert!(grown > late.len() as u64, "what differs is not shared: {grown}");
    assert_files(&store, &first, &first_files);
    assert_files(&store, &second, &second_files);
    let layer = store.tars_of(&second).unwrap().remove(0);
    assert_eq!(content.verify(&layer.0).unwrap(), second_tar.len() as u64);
    assert!(store.verify(&second, &mut std::io::empty()).unwrap().is_none());
    assert!(store.check().unwrap().is_empty());

    // The third shares with the second what that has from the first; a layer on top of it is stacked, or merged.
    let third_files = [("a/big", &big[..]), ("other", &new), ("third", b"x")];
    let third = add_tar(&store, None, &tar_of(&third_files));
    assert_files(&store, &third, &third_files);
    let above = add(&store, Some(&third), &[entry("above")]);
    assert_files(&store, &above, &[("above", b"above"), ("a/big", &big)]);
    let fourth = add_tar(&store, Some(&above), &tar_of(&[("other", &new)]));
    assert_files(&store, &fourth, &[("above", b"above"), ("a/big", &big), ("other", &new)]);
    let last = store.tars_of(&fourth).unwrap().remove(0);
    let lenders = content.parts(&last.0).unwrap().unwrap();
    assert_eq!(lenders.lenders().len(), 1);
    assert_eq!(lenders.lenders()[0].digest, layer.0, "the second has it itself");
}

#[test]
fn what_cannot_be_merged_borrows_nothing() {
    let Fixture { folder: _folder, store, content } = fixture();
    let store = store.with_merge_limits(Limits { entries: 8, ..Limits::default() });
    let big = noise(1, 300_000);
    let first = add_tar(&store, None, &tar_of(&[("big", &big)]));
    let files: Vec<String> = (0..9).map(|number| format!("file{number}")).collect();
    let mut second: Vec<(&str, &[u8])> = files.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    second.push(("big", &big));
    let second = add_tar(&store, Some(&first), &tar_of(&second));
    let layer = store.tars_of(&second).unwrap().remove(0);
    assert!(content.is_whole(&layer.0));
    assert_files(&store, &second, &[("big", &big), ("file8", b"x")]);
}

#[test]
fn a_layer_that_was_lost_may_borrow_otherwise_when_it_comes_again() {
    let Fixture { folder, content, store } = fixture();
    let (big, own) = (noise(1, 300_000), noise(2, 100_000));
    add_tar(&store, None, &tar_of(&[("big", &big)]));
    let files = [("own", &own[..]), ("big", &big)];
    let tar = tar_of(&files);
    let second = add_tar(&store, None, &tar);
    let above = add_tar(&store, Some(&second), &tar_of(&[("above", b"above")]));
    let layer = store.tars_of(&second).unwrap().remove(0);
    let before = content.parts(&layer.0).unwrap().unwrap();
    // A loss of power takes what was written, but not what was written after it.
    content.delete(&layer.0).unwrap();
    let erofs = folder.path().join("erofs");
    for path in [format!("layers/{}", layer.0), format!("committed/{}", second.0)] {
        fs::remove_dir_all(erofs.join(path.replace(':', "-"))).unwrap();
    }
    let first = add_tar(&store, None, &tar_of(&[("pad", &noise(3, 9000)), ("big", &big), ("own", &own)]));
    assert_eq!(add_tar(&store, None, &tar), second);
    assert_ne!(content.parts(&layer.0).unwrap().unwrap(), before);
    assert_files(&store, &second, &files);
    assert_files(&store, &above, &[("above", b"above"), files[0], files[1]]);
    for id in [&first, &second, &above] {
        assert!(store.verify(id, &mut std::io::empty()).unwrap().is_none());
    }
    store.seal(&above).unwrap();
    assert_files(&store, &above, &[("above", b"above"), files[0], files[1]]);
}

#[test]
fn a_layer_that_snapshots_know_as_whole_is_whole_when_it_comes_again() {
    let Fixture { folder: _folder, content, store } = fixture();
    let (big, own) = (noise(1, 300_000), noise(2, 100_000));
    let files = [("own", &own[..]), ("big", &big)];
    let tar = tar_of(&files);
    let first = add_tar(&store, None, &tar);
    let above = add_tar(&store, Some(&first), &tar_of(&[("above", b"above")]));
    let layer = store.tars_of(&first).unwrap().remove(0);
    content.delete(&layer.0).unwrap();
    add_tar(&store, None, &tar_of(&[("big", &big)]));
    assert_eq!(add_tar(&store, None, &tar), first);
    assert!(content.is_whole(&layer.0));
    assert_files(&store, &above, &[("above", b"above"), files[0], files[1]]);
}
