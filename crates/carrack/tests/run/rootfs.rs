//! `--rootfs`: a folder of the host as the root, as it is or below an overlay.

use std::fs;
use std::path::PathBuf;

use carrack_testkit::Store;

use crate::kit::{IMAGE, empty_store, host};
use crate::{UNTIL_TERM, assert_no_container_is_left, await_ready, inspect};

/// A store without images, and a folder with busybox.
fn place() -> (Store, PathBuf) {
    let store = empty_store();
    let root = store.path().join("tree");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for name in ["sh", "cat", "ls", "sleep", "touch"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(root.join("note"), "of the host").unwrap();
    (store, root)
}

#[test]
fn a_folder_is_the_root_and_is_changed() {
    let (store, root) = place();
    let run = |flags: &[&str], script: &str| {
        let tree = root.to_str().unwrap();
        store.carrack(
            [&["run", "--rm", "--network", "none", "--rootfs"], flags, &[tree, "sh", "-c", script]].concat(),
        )
    };
    assert_eq!(run(&[], "cat /note; echo changed > /new; cat /proc/1/comm; true").line(), "of the hostsh");
    assert_eq!(fs::read_to_string(root.join("new")).unwrap(), "changed\n");
    run(&["--read-only"], "touch /other").code(1);
    assert!(!root.join("other").exists() && store.container_ids().is_empty());
    // No more than a mount namespace of the container's own has mounts there.
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("/tree"));
    let absent = store.carrack(["run", "--rm", "--rootfs", "/no/such/folder", "sh"]).code(125);
    assert!(absent.stderr.contains("no folder"), "{}", absent.stderr);
    assert!(
        store
            .carrack(["run", "--rm", "--rootfs", root.to_str().unwrap()])
            .code(125)
            .stderr
            .contains("command")
    );
    store.carrack(["run", "--rm", "--rootfs", &format!("{}:Z", root.display()), "sh"]).code(125);
}

#[test]
fn below_an_overlay_the_folder_stays_as_it_is() {
    let (store, root) = place();
    let tree = format!("{}:O", root.display());
    let script = format!("test -e /new && echo kept; echo changed > /new; rm /note; {UNTIL_TERM}");
    let run = ["run", "-d", "--name", "one", "--network", "none", "--rootfs", &tree, "sh", "-c", &script];
    let id = store.carrack(run).line();
    await_ready(&store, "one");
    assert_eq!(store.carrack(["exec", "one", "cat", "/new"]).line(), "changed");
    assert_eq!(inspect(&store, "one", "{{.Rootfs}} {{.Image}}"), root.display().to_string());
    store.carrack(["stop", "one"]).success();
    // What has changed stays with the container: to be copied, exported, and found at the next start.
    let copied = store.path().join("copied");
    store.carrack(["cp", "one:/new", copied.to_str().unwrap()]).success();
    assert_eq!(fs::read_to_string(copied).unwrap(), "changed\n");
    let tar = store.path().join("tar");
    store.carrack(["export", "--output", tar.to_str().unwrap(), "one"]).success();
    let names = host("tar", ["-tf", tar.to_str().unwrap()]).success().stdout;
    assert!(names.contains("new\n") && !names.contains("note\n"), "{names}");
    store.carrack(["start", "one"]).success();
    await_ready(&store, "one");
    assert!(store.carrack(["logs", "one"]).success().stdout.contains("kept"));
    for command in [&["commit", "one", IMAGE][..], &["diff", "one"]] {
        let refused = store.carrack(command).code(1);
        assert!(refused.stderr.contains("not of an image"), "{}", refused.stderr);
    }
    store.carrack(["system", "prune", "--force"]).success();
    store.carrack(["system", "check"]).success();
    store.carrack(["ps", "--all", "--size"]).success();
    store.carrack(["rm", "-f", "one"]).success();
    assert_no_container_is_left(&store, &id);
    assert!(!root.join("new").exists() && root.join("note").exists());
}
