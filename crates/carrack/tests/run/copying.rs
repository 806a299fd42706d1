//! `cp` and `diff`: Docker's rules, and containers that exchange links and folders meanwhile.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use carrack_testkit::Store;

use crate::kit::{IMAGE, host, run, store, with_input};
use crate::{UNTIL_TERM, await_ready, detached, folder};

#[track_caller]
fn exec(store: &Store, container: &str, script: &str) -> String {
    store.carrack(["exec", container, "sh", "-c", script]).line()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A container that was never started, one that has ended, and one that runs, each with a volume.
fn containers(store: &Store) -> [String; 3] {
    let volume = |name: &str| format!("{name}:/volume");
    let created = store.carrack(["create", "--network", "none", "-v", &volume("one"), IMAGE, "true"]).line();
    let ended = detached(store, &["-v", &volume("two")], "true");
    store.carrack(["wait", &ended]).success();
    let running = detached(store, &["-v", &volume("three"), "--tmpfs", "/memory"], UNTIL_TERM);
    await_ready(store, &running);
    [created, ended, running]
}

#[test]
fn files_go_in_and_out_of_every_container() {
    let store = store();
    let from = folder(&store, "from", &[("file", "text"), ("tree/deep/file", "deep")]);
    for id in containers(&store) {
        let inside = |path: &str| format!("{id}:{path}");
        store.carrack(["cp", "-q", &text(&from.join("file")), &inside("/etc/renamed")]).success();
        store.carrack(["cp", &text(&from.join("tree")), &inside("/volume")]).success();
        let out = store.path().join("out");
        fs::create_dir(&out).unwrap();
        store.carrack(["cp", &inside("/etc/renamed"), &text(&out)]).success();
        store.carrack(["cp", &inside("volume/tree/."), &text(&out.join("tree"))]).success();
        assert_eq!(fs::read_to_string(out.join("renamed")).unwrap(), "text");
        assert_eq!(fs::read_to_string(out.join("tree/deep/file")).unwrap(), "deep");
        fs::remove_dir_all(out).unwrap();
    }
    assert_eq!(run(&store, &["-v", "one:/v"], "cat /v/tree/deep/file").line(), "deep", "it is in the volume");
    let [_, _, running] = containers_named(&store);
    store.carrack(["cp", &text(&from.join("file")), &format!("{running}:/memory/file")]).success();
    assert_eq!(exec(&store, &running, "cat /memory/file; stat -c '%u %g' /memory/file"), "text0 0");
    store.carrack(["rm", "--force", "--all"]).success();
}

fn containers_named(store: &Store) -> [String; 3] {
    let ids = store.carrack(["ps", "--all", "--quiet", "--no-trunc"]).line();
    let ids: Vec<String> = ids.lines().rev().map(str::to_owned).collect();
    ids.try_into().unwrap()
}

#[test]
fn targets_mean_what_docker_says() {
    let store = store();
    let id = store.carrack(["create", "--network", "none", IMAGE, "true"]).line();
    let from = folder(&store, "from", &[("file", "text"), ("dir/inner", "inner")]);
    symlink("file", from.join("link")).unwrap();
    let inside = |path: &str| format!("{id}:{path}");
    let cp = |options: &[&str], source: &str, target: &str| {
        store.carrack([&["cp", "-q"], options, &[source, target]].concat())
    };
    let (file, dir, link) = (text(&from.join("file")), text(&from.join("dir")), text(&from.join("link")));
    cp(&[], &dir, &inside("/new")).success();
    cp(&[], &dir, &inside("/new")).success();
    cp(&[], &format!("{dir}/."), &inside("/new")).success();
    cp(&[], &link, &inside("/new/link")).success();
    cp(&["-L"], &link, &inside("/new/followed")).success();
    cp(&[], &file, &inside("/absent/")).code(1);
    cp(&[], &file, &inside("/absent/file")).code(1);
    cp(&[], &dir, &inside("/etc/passwd")).code(1);
    cp(&[], &format!("{file}/"), &inside("/new")).code(1);
    cp(&[], &inside("/absent"), &text(&from)).code(1);
    fs::create_dir_all(from.join("clash/inner")).unwrap();
    let clash = format!("{}/.", text(&from.join("clash")));
    let refused = cp(&[], &clash, &inside("/new")).code(1);
    assert!(refused.stderr.contains("cannot overwrite a non-directory"), "{}", refused.stderr);
    cp(&["--overwrite"], &clash, &inside("/new")).success();
    store.carrack(["cp", &file, &text(&from.join("other"))]).code(1);
    let tar = store.path().join("out.tar");
    let script = format!(
        "{} --root {} --runroot {} cp {id}:/new - > {}",
        crate::kit::CARRACK,
        store.root().display(),
        store.runroot().display(),
        tar.display()
    );
    host("sh", ["-c", &script]).success();
    let listed = host("tar", ["-tf", tar.to_str().unwrap()]).success().stdout;
    for name in ["new/", "new/dir/inner", "new/inner/", "new/link", "new/followed"] {
        assert!(listed.lines().any(|line| line == name), "{name} of {listed}");
    }
    let mut command = store.command();
    command.args(["cp", "-", &inside("/srv")]);
    let (code, _, error) = with_input(&mut command, &fs::read(&tar).unwrap());
    assert_eq!((code, error.contains("is no directory")), (1, true), "{error}");
    let mut command = store.command();
    command.args(["cp", "-", &inside("/new")]).stdout(Stdio::null());
    assert_eq!(with_input(&mut command, &fs::read(&tar).unwrap()).0, 0);
    cp(&[], &inside("/new/new/dir/inner"), &text(&from.join("back"))).success();
    assert_eq!(fs::read_to_string(from.join("back")).unwrap(), "inner");
}

#[test]
fn what_comes_out_runs_as_nobody_else_and_is_no_device() {
    let store = store();
    let script = "mkdir /d; cp /bin/busybox /d/su; chown 7:8 /d/su; chmod 6755 /d/su; mknod /d/null c 1 3; mknod /d/fifo p; ln -s /etc /d/link; echo ready; sleep 1000";
    let id = detached(&store, &["--cap-add", "MKNOD"], script);
    await_ready(&store, &id);
    let out = store.path().join("out");
    store.carrack(["cp", &format!("{id}:/d"), &text(&out)]).success();
    let su = fs::metadata(out.join("su")).unwrap();
    assert_eq!((su.permissions().mode() & 0o7777, su.uid()), (0o755, 0));
    assert!(!out.join("null").exists() && out.join("fifo").exists());
    assert_eq!(fs::read_link(out.join("link")).unwrap(), Path::new("/etc"));
    let kept = store.path().join("kept");
    store.carrack(["cp", "-a", &format!("{id}:/d"), &text(&kept)]).success();
    let su = fs::metadata(kept.join("su")).unwrap();
    assert_eq!((su.permissions().mode() & 0o7777, su.uid(), su.gid()), (0o755, 7, 8));
    // Once more over what is there: a link of before is not followed.
    store
        .carrack(["exec", &id, "sh", "-c", "rm /d/link; mkdir /d/link; echo x >/d/link/carrack-was-here"])
        .success();
    store.carrack(["cp", "--overwrite", &format!("{id}:/d/."), &text(&out)]).success();
    assert!(!Path::new("/etc/carrack-was-here").exists());
    assert!(out.join("link/carrack-was-here").exists());
    store.carrack(["rm", "--force", &id]).success();
}

/// What is in files of the host, and nowhere else.
const SECRET: &str = "carrack-secret-of-the-host";

/// What a container that attacks does for ever: `/race` is a link to a folder of the host by turns with a folder. It
/// begins each turn anew, as the copies may have put something there.
const ATTACK: &str = "mkdir -p /real/sub; echo mine >/real/secret; echo mine >/real/sub/secret; echo ready; \
    while :; do rm -rf /race /new; cp -r /real /new; mv -T /new /race; rm -rf /race; ln -s /TARGET /race; done";

#[test]
fn a_container_that_exchanges_links_and_folders_never_reaches_the_host() {
    const ROUNDS: usize = 200;
    let store = store();
    let target = folder(&store, "target", &[("secret", SECRET), ("sub/secret", SECRET)]);
    let before = fs::metadata(&target).unwrap();
    let script = ATTACK.replace("/TARGET", &text(&target));
    let id = detached(&store, &[], &script);
    await_ready(&store, &id);
    let gift = folder(&store, "gift", &[("gift", "x"), ("sub/gift", "x")]);
    let gift = format!("{}/.", text(&gift));
    let out = store.path().join("out");
    fs::create_dir(&out).unwrap();
    let mut copied = 0;
    for _ in 0..ROUNDS {
        // Either may fail, as what it names is not there half of the time; neither may reach the host.
        store.carrack(["cp", "-q", &gift, &format!("{id}:/race")]);
        store.carrack(["cp", "-q", &format!("{id}:/race/."), &text(&out)]);
        store.carrack(["cp", "-q", &format!("{id}:/race/secret"), &text(&out)]);
        let secret = fs::read_to_string(out.join("secret")).unwrap_or_default();
        assert_ne!(secret, SECRET, "a file of the host came out");
        copied += usize::from(secret == "mine\n");
        assert_eq!(fs::read_dir(&target).unwrap().count(), 2, "a file went to the host");
        assert_eq!(fs::read_dir(target.join("sub")).unwrap().count(), 1, "a file went to the host");
        fs::remove_dir_all(&out).unwrap();
        fs::create_dir(&out).unwrap();
    }
    assert!(copied > 0, "the copies have never met the folder");
    assert_eq!(fs::metadata(&target).unwrap().mtime_nsec(), before.mtime_nsec());
    let tar = store.path().join("export.tar");
    for _ in 0..10 {
        let _ = fs::remove_file(&tar);
        store.carrack(["export", "--output", &text(&tar), &id]);
        let bytes = fs::read(&tar).unwrap_or_default();
        assert!(
            !bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()),
            "an export has files of the host"
        );
    }
    store.carrack(["commit", "--quiet", "--pause=false", &id, "localhost/raced:1"]);
    store.carrack(["rm", "--force", &id]).success();
}

#[test]
fn diff_names_what_was_added_changed_and_deleted() {
    let store = store();
    let host = folder(&store, "host", &[("file", "x")]);
    let bind = format!("{}:/bound/deep", host.display());
    let script = "echo x >>/etc/passwd; rm /bin/vi; mkdir -p /srv/own; echo y >/srv/own/file; echo z >/memory/z; rm -r /usr; mkdir /usr; echo ready; sleep 1000";
    let id = detached(&store, &["-v", &bind, "--tmpfs", "/memory"], script);
    await_ready(&store, &id);
    let running = store.carrack(["diff", &id]).line();
    let lines: Vec<&str> = running.lines().collect();
    for line in ["C /etc", "C /etc/passwd", "C /bin", "D /bin/vi", "A /srv", "A /srv/own", "A /srv/own/file"]
    {
        assert!(lines.contains(&line), "{line} of {lines:?}");
    }
    for made in ["/bound", "/memory", "/etc/hosts", "/proc", "/dev"] {
        assert!(!lines.iter().any(|line| line[2..].starts_with(made)), "{made} of {lines:?}");
    }
    store.carrack(["kill", &id]).success();
    store.carrack(["wait", &id]).success();
    assert_eq!(store.carrack(["diff", &id]).line(), running, "stopped as well");
    let json: serde_json::Value =
        serde_json::from_str(&store.carrack(["diff", "--format", "json", &id]).line()).unwrap();
    assert!(json["deleted"].as_array().unwrap().contains(&"/bin/vi".into()), "{json}");
    store.carrack(["commit", "--quiet", &id, "localhost/changed:1"]).success();
    let image = store.carrack(["diff", "localhost/changed:1"]).line();
    assert!(
        image.lines().any(|line| line == "D /bin/vi") && image.lines().any(|line| line == "A /srv/own/file"),
        "{image}"
    );
}

#[test]
fn nothing_is_copied_onto_a_read_only_root() {
    let store = store();
    store.carrack(["create", "--name", "one", "--read-only", "-v", "/own", IMAGE, "true"]).success();
    let file = folder(&store, "files", &[("a", "1")]).join("a");
    let run = store.carrack(["cp", file.to_str().unwrap(), "one:/a"]).code(1);
    assert!(run.stderr.contains("its root is read-only"), "{}", run.stderr);
    store.carrack(["cp", file.to_str().unwrap(), "one:/own/a"]).success();
    store.carrack(["rm", "-v", "one"]).success();
}
