//! Contexts and images that try to reach outside, or to take all time.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use carrack_build::IgnoreList;

use crate::kit::Build;

#[test]
fn links_of_a_context_do_not_lead_out() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let target = outside.path().to_str().unwrap();
    for source in ["link/secret", "link", "up/secret", "lin*/secret", "chain"] {
        let build = Build::new(&format!("FROM scratch\nCOPY {source} /got/\n"))
            .link("link", target)
            .link("up", &format!("../{}", outside.path().file_name().unwrap().to_str().unwrap()))
            .link("chain", "link/secret");
        let tree = build.tree();
        assert!(!tree.contains("\"secret\""), "{source}: {tree}");
    }
}

#[test]
fn links_of_an_image_do_not_lead_writes_out() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let build =
        Build::new("FROM scratch\nCOPY image /\nCOPY f /link/f\nCOPY d /link\nCOPY d /\nWORKDIR /link/w\n")
            .file("f", "f")
            .file("d/sub/f", "f");
    fs::create_dir(build.path("image")).unwrap();
    let build = build.link("image/link", target);
    build.tree();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "something was written outside");
}

#[test]
fn a_link_below_the_destination_is_not_entered() {
    let build =
        Build::new("FROM scratch\nCOPY image /\nCOPY d /\n").file("image/real/x", "x").file("d/sub/f", "f");
    let error = build.link("image/sub", "real").tree();
    assert!(error.contains("cannot put the folder sub over a file"), "{error}");
}

#[test]
fn devices_are_refused_sockets_left_out_and_fifos_not_waited_for() {
    let build = Build::new("FROM scratch\nCOPY . /c/\n").file("f", "f");
    let _socket = UnixListener::bind(build.path("socket")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, build.path("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let mut store = crate::kit::Store::default();
    let report = build.run(&mut store).unwrap();
    let folder = store.path_in(&report.built);
    let names = fs::read_dir(folder.dir.path().join("c")).unwrap().count();
    assert_eq!(names, 2, "f and fifo");
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, build.path("null"), kind, 0o600.into(), 0x103).unwrap();
    assert!(build.tree().contains("null is a device"));
}

#[test]
fn passwd_of_an_image_is_read_with_care() {
    let outside = tempfile::tempdir().unwrap();
    let passwd = outside.path().join("passwd");
    fs::write(&passwd, "app:x:77:77::/:\n").unwrap();
    let build =
        Build::new("FROM scratch\nCOPY image /\nCOPY --chown=app f /f\n").file("f", "f").file("image/x", "");
    fs::create_dir(build.path("image/etc")).unwrap();
    symlink(&passwd, build.path("image/etc/passwd")).unwrap();
    assert!(build.tree().starts_with("error: "));
    let large = Build::new("FROM scratch\nCOPY image /\nCOPY --chown=app f /f\n").file("f", "f");
    let large = large.file("image/etc/passwd", &"x\n".repeat(1 << 20));
    assert!(large.tree().starts_with("error: "));
    let wrong = Build::new("FROM scratch\nCOPY image /\nCOPY --chown=app f /f\n").file("f", "f");
    let wrong = wrong.file("image/etc/passwd", "app:x:4294967295:0::/:\n");
    assert!(wrong.tree().contains("has no valid number"));
}

#[test]
fn a_file_that_changes_while_it_is_copied_is_an_error() {
    // Between listing and copying, the backend is asked to prepare: the test's backend is changed to write then.
    let build = Build::new("FROM scratch\nRUN echo hello\nCOPY f /f\n").file("f", "f");
    let plan = build.plan();
    let mut store = crate::kit::Store::default();
    let path = build.path("f");
    store.on_prepare = Some(Box::new(move || fs::write(&path, "changed later").unwrap()));
    let error = crate::kit::causes(&carrack_build::build(&plan, &mut store, &|_| {}).err().unwrap());
    assert!(error.contains("has changed during the build"), "{error}");
}

#[test]
fn patterns_cannot_take_all_time() {
    let started = Instant::now();
    let list = IgnoreList::parse(&format!("{}b\n{}x", "a*".repeat(200), "**/a".repeat(100))).unwrap();
    let path = format!("{}/{}", "a".repeat(2000), "a/".repeat(1000));
    assert!(!list.excludes(&path));
    assert!(started.elapsed() < Duration::from_secs(10));
}
