use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// Makes a chain of `depth` folders `d/d/d...` below `root`, deeper than any path the kernel takes.
fn make_chain(root: &Root, depth: usize) {
    let mut here = root.try_clone().unwrap();
    for _ in 0..depth {
        here.at("d").unwrap().create_dir(0o755).unwrap();
        here = here.open_dir("d").unwrap();
    }
    here.at("file").unwrap().create_file(0o644).unwrap();
}

#[test]
fn removes_measures_and_walks_what_is_deeper_than_a_path_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().join("top");
    fs::create_dir(&top).unwrap();
    let root = Root::open(&top).unwrap();
    make_chain(&root, 5000);
    root.at("z").unwrap().create_dir(0o755).unwrap();
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    let mut names = 0;
    walk(&root, |_| {
        names += 1;
        let open = if names % 100 == 0 { fs::read_dir("/proc/self/fd").unwrap().count() } else { before };
        assert!(open < before + 100, "{open} open files");
        Ok::<_, crate::Error>(true)
    })
    .unwrap();
    assert_eq!(names, 5002);
    assert_eq!(usage(&root).unwrap().inodes, 5002);
    remove_tree(&top).unwrap();
    assert!(!top.exists());
    remove_tree(&top).unwrap();
}

#[test]
fn removal_does_not_follow_links() {
    let folder = tempfile::tempdir().unwrap();
    let (top, kept) = (folder.path().join("top"), folder.path().join("kept"));
    fs::create_dir_all(top.join("a/b")).unwrap();
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("file"), "").unwrap();
    symlink(&kept, top.join("a/b/link")).unwrap();
    symlink(&kept, folder.path().join("link")).unwrap();
    remove_tree(&top).unwrap();
    remove_tree(&folder.path().join("link")).unwrap();
    assert!(kept.join("file").exists());
}

#[test]
fn a_walk_goes_by_names_and_skips_what_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["b/two", "b/one", "a/skipped", "c"] {
        fs::create_dir_all(folder.path().join(path)).unwrap();
    }
    symlink("/", folder.path().join("link")).unwrap();
    let mut seen = Vec::new();
    walk(&Root::open(folder.path()).unwrap(), |place| {
        seen.push(place.path().to_str().unwrap().to_owned());
        Ok::<_, crate::Error>(place.path() != Path::new("a"))
    })
    .unwrap();
    assert_eq!(seen, ["a", "b", "b/one", "b/two", "c", "link"]);
}

#[test]
fn an_inode_with_two_names_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("one"), [1; 8192]).unwrap();
    let once = usage(&Root::open(folder.path()).unwrap()).unwrap();
    fs::hard_link(folder.path().join("one"), folder.path().join("two")).unwrap();
    assert_eq!(usage(&Root::open(folder.path()).unwrap()).unwrap(), once);
}

#[test]
fn counts_what_du_counts() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().join("top");
    fs::create_dir_all(top.join("a/b")).unwrap();
    fs::write(top.join("a/file"), vec![1; 100_000]).unwrap();
    fs::hard_link(top.join("a/file"), top.join("a/b/again")).unwrap();
    fs::File::create(top.join("sparse")).unwrap().set_len(1 << 30).unwrap();
    symlink("/", top.join("link")).unwrap();
    let du = std::process::Command::new("du").args(["-s", "-B1"]).arg(&top).output().unwrap();
    let expected: u64 = String::from_utf8(du.stdout).unwrap().split('\t').next().unwrap().parse().unwrap();
    assert_eq!(allocated_bytes(&top).unwrap(), expected);
    assert!(allocated_bytes(&top.join("sparse")).unwrap() < 1 << 20);
    assert_eq!(allocated_bytes(&top.join("absent")).unwrap(), 0);
}
