//! `--volume`, `--mount` and `--tmpfs`: what the program sees, what reaches the host, what `inspect` shows.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use serde_json::{Value, json};

use crate::kit::{IMAGE, busybox, run, store};
use crate::{folder, inspect};

#[test]
fn a_missing_source_is_made_by_volume_and_refused_by_mount() {
    let store = store();
    let missing = store.path().join("made/by/volume");
    run(&store, &["-v", &format!("{}:/data", missing.display())], "echo x >/data/x").success();
    assert!(missing.join("x").exists());
    let other = store.path().join("not-made");
    let flag = format!("type=bind,src={},dst=/data", other.display());
    let refused = run(&store, &["--mount", &flag], "true").code(125);
    assert!(refused.stderr.contains("bind source path does not exist"), "{}", refused.stderr);
    assert!(!other.exists());
    for wrong in ["type=bind,src=/etc,dst=/e,nonsense", "type=tmpfs,dst=/e,src=/x", "type=bind,src=/etc"] {
        run(&store, &["--mount", wrong], "true").code(125);
    }
    let twice = ["--tmpfs", "/same", "--mount", "type=tmpfs,dst=/same"];
    assert!(run(&store, &twice, "true").code(125).stderr.contains("duplicate mount point: /same"));
}

#[test]
fn attributes_of_binds_hold() {
    let store = store();
    let host = folder(&store, "host", &[("file", "x")]);
    fs::copy("/bin/busybox", host.join("busybox")).unwrap();
    let bind = |options: &str| format!("{}:/data:{options}", host.display());
    run(&store, &["-v", &bind("noexec")], "/data/busybox true").code(126);
    run(&store, &["-v", &bind("exec")], "/data/busybox true").success();
    let options = "grep ' /data ' /proc/self/mountinfo | cut -d ' ' -f 6";
    let seen = run(&store, &["-v", &bind("nosuid,nodev,ro")], options).line();
    assert!(seen.contains("ro") && seen.contains("nosuid") && seen.contains("nodev"), "{seen}");
    run(&store, &["-v", &bind("nonsense")], "true").code(125);
    let link = store.path().join("link");
    symlink(&host, &link).unwrap();
    assert_eq!(run(&store, &["-v", &format!("{}:/data", link.display())], "cat /data/file").line(), "x");
}

#[test]
fn changes_of_an_overlay_are_thrown_away() {
    let store = store();
    let host = folder(&store, "host", &[("file", "before"), ("gone", "")]);
    let flag = format!("{}:/data:O", host.display());
    let script = "echo -n after >/data/file; rm /data/gone; mkdir /data/new; cat /data/file; ls /data";
    assert_eq!(run(&store, &["-v", &flag], script).line(), "afterfile\nnew");
    assert_eq!(fs::read_to_string(host.join("file")).unwrap(), "before");
    assert!(host.join("gone").exists() && !host.join("new").exists());
    assert_eq!(run(&store, &["-v", &flag], "cat /data/file").line(), "before");
}

#[test]
fn a_source_is_given_to_the_containers_user() {
    let store = store();
    let host = folder(&store, "host", &[("sub/file", "x")]);
    let outside = folder(&store, "outside", &[("file", "x")]);
    symlink(&outside, host.join("link")).unwrap();
    let flag = format!("{}:/data:U", host.display());
    run(&store, &["-u", "12:34", "-v", &flag], "echo y >/data/sub/file").success();
    let owner = |path: &std::path::Path| fs::metadata(path).map(|own| (own.uid(), own.gid())).unwrap();
    assert_eq!((owner(&host), owner(&host.join("sub/file"))), ((12, 34), (12, 34)));
    assert_eq!(owner(&outside.join("file")), (0, 0));
    let refused = run(&store, &["-v", "/usr:/data:U"], "true").code(125);
    assert!(refused.stderr.contains("not allowed"), "{}", refused.stderr);
}

#[test]
fn labels_are_no_matter_where_selinux_is_off() {
    if std::path::Path::new("/sys/fs/selinux/status").exists() {
        return;
    }
    let store = store();
    let host = folder(&store, "host", &[("file", "x")]);
    for option in ["z", "Z", "ro,z"] {
        assert_eq!(
            run(&store, &["-v", &format!("{}:/d:{option}", host.display())], "cat /d/file").line(),
            "x"
        );
    }
}

#[test]
fn memory_has_the_options_that_were_asked_for() {
    let store = store();
    let script = "stat -c '%a %u %g' /t; df -k /t | awk 'END { print $2 }'";
    let flag = "type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=1750,uid=5,gid=6";
    assert_eq!(run(&store, &["--mount", flag], script).line(), "1750 5 6\n2048");
    assert_eq!(run(&store, &["--tmpfs", "/t:size=1m,mode=700,uid=3,gid=4"], script).line(), "700 3 4\n1024");
    run(&store, &["--tmpfs", "/t:ro"], "touch /t/x").code(1);
    run(&store, &["--tmpfs", "/t:nonsense"], "true").code(125);
    let script = "echo x >/tmp/x && echo x >/run/x && echo x >/var/tmp/x && ! touch /x";
    run(&store, &["--read-only"], script).success();
    run(&store, &["--read-only", "--read-only-tmpfs=false"], "touch /tmp/x").code(1);
}

#[test]
fn an_image_is_seen_read_only_and_kept() {
    let store = store();
    store.load(&busybox().layer("/usr/share/text \"of another image\""), "localhost/other:1");
    let flag = "type=image,src=localhost/other:1,dst=/other";
    let script = "cat /other/usr/share/text; touch /other/x";
    assert_eq!(run(&store, &["--mount", flag], script).code(1).stdout, "of another image");
    let part = format!("{flag},subpath=usr/share");
    assert_eq!(run(&store, &["--mount", &part], "ls /other").line(), "text");
    let writable = format!("{flag},rw=true");
    assert_eq!(run(&store, &["--mount", &writable], "echo -n new >/other/x; cat /other/x").line(), "new");
    let id = store.carrack(["create", "--network", "none", "--mount", flag, IMAGE, "true"]).line();
    let refused = store.carrack(["rmi", "localhost/other:1"]).code(1);
    assert!(refused.stderr.contains("in use by container"), "{}", refused.stderr);
    store.carrack(["rm", &id]).success();
    store.carrack(["rmi", "localhost/other:1"]).success();
}

#[test]
fn patterns_and_terminals() {
    let store = store();
    let host = folder(&store, "host", &[("lib1.so", "1"), ("lib2.so", "2"), ("other", "3")]);
    let flag = format!("type=glob,src={}/lib*,dst=/libs", host.display());
    assert_eq!(run(&store, &["--mount", &flag], "cat /libs/*; touch /libs/lib1.so").code(1).stdout, "12");
    let none = format!("type=glob,src={}/no*,dst=/libs", host.display());
    run(&store, &["--mount", &none], "true").code(125);
    run(&store, &["--mount", "type=devpts,dst=/pts,mode=600"], "test -c /pts/ptmx").success();
}

#[test]
fn inspect_shows_mounts_as_docker_does() {
    let store = store();
    let host = folder(&store, "host", &[("file", "x")]);
    let bind = format!("{}:/bind:ro,rslave", host.display());
    let long = format!("type=bind,src={},dst=/long,readonly", host.display());
    let flags =
        ["-v", &bind, "-v", "data:/data", "--mount", &long, "--mount", "type=tmpfs,dst=/t,tmpfs-size=4096"];
    let command =
        [&["create", "--network", "none", "--tmpfs", "/u:size=1m"], &flags[..], &[IMAGE, "true"]].concat();
    let id = store.carrack(command).line();
    let value: Value = serde_json::from_str(&inspect(&store, &id, "{{json .}}")).unwrap();
    assert_eq!(value["HostConfig"]["Binds"], json!([bind, "data:/data"]));
    assert_eq!(value["HostConfig"]["Tmpfs"], json!({"/u": "size=1m"}));
    assert_eq!(value["HostConfig"]["Mounts"][0]["Type"], "bind");
    assert_eq!(value["HostConfig"]["Mounts"][1]["TmpfsOptions"], json!({"SizeBytes": 4096}));
    let mounts = value["Mounts"].as_array().unwrap();
    let volume = store.root().join("volumes/data/_data");
    let expected = [
        json!({"Type": "bind", "Source": host, "Destination": "/bind", "Mode": "ro,rslave", "RW": false, "Propagation": "rslave"}),
        json!({"Type": "volume", "Name": "data", "Source": volume, "Destination": "/data", "Driver": "local", "Mode": "z", "RW": true, "Propagation": ""}),
        json!({"Type": "bind", "Source": host, "Destination": "/long", "Mode": "", "RW": false, "Propagation": "rprivate"}),
        json!({"Type": "tmpfs", "Source": "", "Destination": "/t", "Mode": "", "RW": true, "Propagation": ""}),
    ];
    assert_eq!(mounts.as_slice(), expected);
}
