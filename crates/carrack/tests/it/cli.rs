//! The command line itself: exit codes, names of images, formats, settings, and every source of `import`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use carrack_testkit::ImageFixture;

use crate::kit::{IMAGE, empty_store, host, id, store, with_input};

const TAR: &str = "/etc/\n/etc/motd 0644 \"ahoy\\n\"";

#[test]
fn help_and_version_are_printed_to_standard_output() {
    let store = empty_store();
    let help = store.carrack(["--help"]).success();
    assert!(help.stdout.contains("build") && help.stdout.contains("registry"), "{}", help.stdout);
    assert!(store.carrack(["run", "--help"]).success().stdout.contains("--pids-limit"));
    let version = store.carrack(["--version"]).line();
    assert!(store.carrack(["version"]).line().contains(version.strip_prefix("carrack ").unwrap()));
}

#[test]
fn wrong_usage_exits_with_125_and_says_what_is_wrong() {
    let store = empty_store();
    for (arguments, said) in [
        (&["abscond"][..], "abscond"),
        (&["run", "--no-such-flag", "x"], "--no-such-flag"),
        (&["run", "--memory", "much", "x"], "much"),
        (&["run"], "<IMAGE>"),
        (&["pull", "--platform", "a/b/c/d", "x"], "a/b/c/d"),
    ] {
        let run = store.carrack(arguments).code(125);
        assert!(run.stderr.contains(said), "{}", run.stderr);
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn a_missing_object_exits_with_1_and_is_named() {
    let store = empty_store();
    for (arguments, said) in [
        (&["import", "/no/such/file.tar", "x"][..], "/no/such/file.tar"),
        (&["inspect", "absentee"], "absentee"),
        (&["rmi", "absentee"], "absentee"),
        (&["rm", "absentee"], "absentee"),
        (&["tag", "absentee", "x"], "absentee"),
        (&["push", "absentee", "127.0.0.1:1/x"], "absentee"),
        (&["pull", "oci:/no/such/layout"], "/no/such/layout"),
        (&["pull", "Not A Reference"], "Not A Reference"),
        (&["build", "/no/such/context"], "/no/such/context"),
    ] {
        let run = store.carrack(arguments).code(1);
        assert!(run.stderr.starts_with("error: ") && run.stderr.contains(said), "{}", run.stderr);
    }
    let run = store.carrack(["run", "--pull", "never", "absentee"]).code(125);
    assert!(run.stderr.contains("absentee"), "{}", run.stderr);
}

#[test]
fn an_image_has_names_until_its_last_one_goes() {
    let store = store();
    store.carrack(["tag", IMAGE, "app"]).success();
    let format = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
    let mut names: Vec<_> = store.carrack(format).line().lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names.last().map(String::as_str), Some(IMAGE), "{names:?}");
    assert!(names.contains(&"app:latest".to_owned()), "{names:?}");
    let id = id(&store, "app");
    assert_eq!(id, crate::kit::id(&store, IMAGE));
    assert_eq!(id, crate::kit::id(&store, "docker.io/library/app:latest"));
    assert_eq!(id, crate::kit::id(&store, &id["sha256:".len()..][..12]));
    store.carrack(["untag", "app"]).success();
    store.carrack(["inspect", "app"]).code(1);
    store.carrack(["rmi", "--force", &id]).success();
    assert_eq!(store.carrack(["images", "-q"]).line(), "");
    assert!(crate::kit::files_below(&store.root().join("content/blobs")).is_empty());
}

#[test]
fn images_and_containers_can_be_read_by_programs() {
    let store = store();
    let images = store.carrack(["images", "--format", "json"]).line();
    assert!(images.contains(r#""Repository":"localhost/busybox""#), "{images}");
    let inspected = store.carrack(["inspect", "--format", "json", IMAGE]).line();
    assert!(inspected.contains(&busybox_id()), "{inspected}");
    let command = store.carrack(["inspect", "--format", "{{json .Config.Cmd}}", IMAGE]).line();
    assert_eq!(command, r#"["sh"]"#);
    store.carrack(["create", "--name", "one", "--network", "none", IMAGE]).success();
    let containers = store.carrack(["ps", "--all", "--format", "json"]).line();
    assert!(containers.contains(r#""Names":"one""#), "{containers}");
    let run = store.carrack(["ps", "--format", "{{.NoSuchField}}"]);
    assert_ne!(run.code, 101, "{}", run.stderr);
}

fn busybox_id() -> String {
    crate::kit::busybox().id().to_string()
}

#[test]
fn import_takes_files_of_every_compression_and_standard_input() {
    let store = empty_store();
    let plain = store.path().join("rootfs.tar");
    fs::write(&plain, ImageFixture::tar(TAR)).unwrap();
    let mut diff_ids = Vec::new();
    let mut check = |name: &str| {
        let format = "{{index .RootFS.Layers 0}}";
        diff_ids.push(store.carrack(["inspect", "--format", format, name]).line());
    };
    for (program, ending) in
        [("true", ""), ("gzip", ".gz"), ("xz", ".xz"), ("zstd", ".zst"), ("bzip2", ".bz2")]
    {
        let file = format!("{}{ending}", plain.display());
        if !ending.is_empty() {
            host(program, ["-k", "-q", &plain.display().to_string()]).success();
        }
        store.carrack(["import", "--quiet", &file, &format!("app{}", ending.len())]).success();
        check(&format!("app{}", ending.len()));
    }
    let tar = fs::read(&plain).unwrap();
    let (code, _, errors) = with_input(store.command().args(["import", "-", "piped"]), &tar);
    assert_eq!(code, 0, "{errors}");
    check("piped");
    diff_ids.dedup();
    assert_eq!(diff_ids.len(), 1, "{diff_ids:?}");
}

#[test]
fn import_takes_a_url_and_applies_changes() {
    let store = empty_store();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/rootfs.tar", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap();
        assert!(request[..length].starts_with(b"GET /rootfs.tar "));
        let tar = ImageFixture::tar(TAR);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", tar.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&tar).unwrap();
    });
    let change = "ENTRYPOINT [\"/bin/sh\"]";
    store.carrack(["import", "--change", change, "--message", "by hand", &url, "remote"]).success();
    server.join().unwrap();
    let entrypoint = store.carrack(["inspect", "--format", "{{json .Config.Entrypoint}}", "remote"]).line();
    assert_eq!(entrypoint, r#"["/bin/sh"]"#);
}

#[test]
fn import_of_something_else_than_a_tar_makes_no_image() {
    let store = empty_store();
    let file = store.path().join("not.tar");
    fs::write(&file, "not a tar at all, but a line of text that is long enough\n".repeat(40)).unwrap();
    let run = store.carrack(["import", file.to_str().unwrap(), "x"]).code(1);
    assert!(run.stderr.contains("not.tar"), "{}", run.stderr);
    crate::kit::assert_nothing_is_left(&store);
}

#[test]
fn a_settings_file_is_used_and_a_misspelt_key_is_refused() {
    let store = store();
    let file = store.path().join("carrack.toml");
    let file_name = file.to_str().unwrap();
    fs::write(&file, "[containers]\npids_limit = 77\n").unwrap();
    let script = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null || true";
    let flags = ["--settings", file_name, "run", "--rm", "--network", "none", IMAGE, "sh", "-c", script];
    assert_eq!(store.carrack(flags).line(), "77");
    fs::write(&file, "[containers]\npid_limit = 77\n").unwrap();
    let run = store.carrack(["--settings", file_name, "ps"]).code(1);
    assert!(run.stderr.contains("pid_limit") && run.stderr.contains("carrack.toml"), "{}", run.stderr);
    let run = store.carrack(["--settings", "/no/such/settings", "ps"]).code(125);
    assert!(run.stderr.contains("/no/such/settings"), "{}", run.stderr);
}

#[test]
fn completion_and_manual_are_made() {
    let store = empty_store();
    assert!(store.carrack(["completion", "bash"]).success().stdout.contains("_carrack"));
    let folder = store.path().join("man");
    store.carrack(["manual", folder.to_str().unwrap()]).success();
    assert!(folder.join("carrack-run.1").exists());
}
