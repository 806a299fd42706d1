//! The test kit takes along what a test leaves, and finds what hangs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use carrack_testkit::{ImageFixture, Run, Store};
use rustix::mount::{MountFlags, mount};

#[test]
fn a_store_that_panics_leaves_no_process_and_no_mount() {
    let mut path = None;
    let mut child = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let store = Store::new("/bin/false");
        path = Some(store.path().to_owned());
        let file = store.path().join("watched");
        std::fs::write(&file, "").unwrap();
        child = Some(Command::new("tail").arg("-f").arg(file).stdin(Stdio::null()).spawn().unwrap());
        let point = store.path().join("home");
        // Only root mounts; without the right, the rest is still tested.
        let _ = mount("none", &point, "tmpfs", MountFlags::empty(), None);
        panic!("the test fails");
    }));
    assert!(panicked.is_err());
    let path = path.unwrap();
    assert!(!path.exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(path.to_str().unwrap()));
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut child = child.unwrap();
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the process is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_run_has_a_code_and_output() {
    let shell = |script: &str| Run::of(Command::new("sh").args(["-c", script]), Duration::from_secs(10));
    let run = shell("echo out; echo err >&2; exit 3").code(3);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("out\n", "err\n"));
    shell("kill -9 $$").code(137);
    assert_eq!(shell("echo '  x '").line(), "x");
    assert!(catch_unwind(|| shell("exit 1").success()).is_err());
}

#[test]
fn a_process_that_holds_the_output_is_found() {
    let held = || Run::of(Command::new("sh").args(["-c", "sleep 3 &"]), Duration::from_millis(300));
    let message = *catch_unwind(held).unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("standard output is still held open"), "{message}");
    let hangs = || Run::of(Command::new("sleep").arg("60"), Duration::from_millis(100));
    let message = *catch_unwind(hangs).unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("no end after"), "{message}");
}

#[test]
fn gnu_tar_reads_a_layer_written_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let layer = folder.path().join("layer.tar");
    let lines = r#"
        /etc/ 0750 1:2
        /etc/hosts 0640 3:4 "text" mtime=1600000000
        /etc/link -> hosts
        /etc/hard => /etc/hosts
        /etc/old whiteout
        "#;
    std::fs::write(&layer, ImageFixture::tar(lines)).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--numeric-owner", "--utc", "-tvf"]).arg(&layer);
    let listed = Run::of(&mut tar, Duration::from_secs(10)).success().stdout;
    let words: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["drwxr-x---", "1/2", "0", "1970-01-01", "00:00", "etc/"]);
    assert_eq!(words[1], ["-rw-r-----", "3/4", "4", "2020-09-13", "12:26", "etc/hosts"]);
    assert_eq!(words[2][5..], ["etc/link", "->", "hosts"]);
    assert_eq!(words[3][5..], ["etc/hard", "link", "to", "etc/hosts"]);
    assert_eq!(words[4][5..], ["etc/.wh.old"]);
}
