//! Options of mounts: which mounts they reach, propagation, and filesystems that are filled or joined.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::fixture::Container;
use crate::{mount, stderr, stdout};

/// Runs `script` in a mount namespace of its own; "$@" in it is what starts the container.
fn beside(container: &Container, script: &str) -> Output {
    let start = container.command(&[]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]);
    command.arg(start.get_program()).args(start.get_args());
    command.stdin(std::process::Stdio::null()).output().unwrap()
}

fn source(container: &Container) -> String {
    let source = container.outside("source");
    fs::create_dir_all(source.join("below")).unwrap();
    source.to_str().unwrap().to_owned()
}

fn push(container: &mut Container, mount: oci_spec::runtime::Mount) {
    container.spec.mounts_mut().as_mut().unwrap().push(mount);
}

#[test]
fn plain_attributes_are_those_of_one_mount_and_recursive_ones_of_all_below() {
    let script = "touch /data/x && echo top; touch /data/below/x && echo below; \
                  touch /all/x && echo top; touch /all/below/x && echo below; \
                  grep ' /all' /proc/self/mountinfo | grep -c noexec; grep ' /data' /proc/self/mountinfo | grep -c noexec; true";
    let mut container = Container::shell(script);
    let source = source(&container);
    push(&mut container, mount("/data", "bind", &source, &["rbind", "ro", "noexec"]));
    push(&mut container, mount("/all", "bind", &source, &["rbind", "rro", "rnoexec"]));
    let output = beside(&container, &format!("mount -t tmpfs below {source}/below; exec \"$@\""));
    assert_eq!(stdout(&output), "below\n2\n1", "{}", stderr(&output));
}

#[test]
fn times_of_access_are_kept_as_asked() {
    let script = "for m in /a /b /c; do grep \" $m \" /proc/self/mountinfo | cut -d' ' -f6; done";
    let mut container = Container::shell(script);
    std::os::unix::fs::symlink("busybox", container.path("/bin/cut")).unwrap();
    let source = source(&container);
    push(&mut container, mount("/a", "bind", &source, &["bind", "noatime"]));
    push(&mut container, mount("/b", "bind", &source, &["bind", "relatime", "nodiratime"]));
    push(&mut container, mount("/c", "tmpfs", "tmpfs", &["strictatime", "nosymfollow"]));
    let output = beside(&container, &format!("mount -t tmpfs -o noatime x {source}; exec \"$@\""));
    assert_eq!(stdout(&output), "rw,noatime\nrw,nodiratime,relatime\nrw,nosymfollow", "{}", stderr(&output));
}

#[test]
fn a_slave_gets_later_mounts_and_a_private_one_does_not() {
    let script = "i=0; while [ ! -e /slave/below/file ] && [ $i -lt 200 ]; do sleep 0.02; i=$((i+1)); done
                  ls /slave/below; echo -; ls /private/below; echo -; grep -o 'master:' /proc/self/mountinfo | wc -l";
    let mut container = Container::shell(script);
    let source = source(&container);
    push(&mut container, mount("/slave", "bind", &source, &["rbind", "rslave"]));
    push(&mut container, mount("/private", "bind", &source, &["rbind"]));
    let report = container.outside("pid");
    let around = format!(
        "mount -t tmpfs top {source}; mkdir {source}/below; mount --make-shared {source}
         \"$@\" --report {} & while [ ! -e {} ]; do sleep 0.01; done
         mount -t tmpfs below {source}/below; touch {source}/below/file; wait $!",
        report.display(),
        report.display()
    );
    let output = beside(&container, &around);
    assert_eq!(stdout(&output), "file\n-\n-\n2", "{}", stderr(&output));
}

#[test]
fn the_root_has_the_propagation_asked_for() {
    let root = |propagation: &str| {
        let mut container =
            Container::shell("grep ' / / ' /proc/self/mountinfo; grep ' /x ' /proc/self/mountinfo");
        push(&mut container, mount("/x", "tmpfs", "tmpfs", &[]));
        container.spec.linux_mut().as_mut().unwrap().set_rootfs_propagation(Some(propagation.into()));
        // The folder of the files is a mount of its own, so that its root is "/".
        let rootfs = container.path("").display().to_string();
        let rootfs = rootfs.trim_end_matches('/').to_owned();
        let around = format!(
            "cp -a {rootfs} {rootfs}.copy; mount -t tmpfs -o mode=755 x {rootfs}; cp -a {rootfs}.copy/. {rootfs}
             mount --make-shared {rootfs}; exec \"$@\""
        );
        let output = beside(&container, &around);
        (stdout(&output), stderr(&output))
    };
    let (shared, error) = root("rshared");
    assert_eq!(shared.matches("shared:").count(), 2, "{shared} {error}");
    let (shared, error) = root("shared");
    assert_eq!(shared.matches("shared:").count(), 1, "{shared} {error}");
    let (slave, error) = root("rslave");
    assert!(slave.lines().next().unwrap().contains("master:"), "{slave} {error}");
    let (private, error) = root("private");
    assert!(!private.contains("shared:") && !private.contains("master:"), "{private} {error}");
    assert!(!private.is_empty(), "{error}");
    let (unbindable, error) = root("unbindable");
    assert_eq!(unbindable.matches("unbindable").count(), 1, "{unbindable} {error}");
    assert!(root("sideways").1.contains("sideways"));
}

#[test]
fn mounts_are_placed_in_their_order() {
    let mut container = Container::shell("cat /sys/fs/cgroup/mine /over/mine");
    let source = source(&container);
    fs::write(Path::new(&source).join("mine"), "second\n").unwrap();
    push(&mut container, mount("/over", "tmpfs", "tmpfs", &[]));
    push(&mut container, mount("/over", "bind", &source, &["bind"]));
    push(&mut container, mount("/sys/fs/cgroup", "bind", &source, &["bind"]));
    assert_eq!(container.stdout(), "second\nsecond");
}

#[test]
fn a_filesystem_in_memory_begins_with_what_the_image_has() {
    let script = "cat /etc/one /etc/deep/two; readlink /etc/link; stat -c %a:%u:%Y /etc/one /etc/deep; \
                  touch /etc/new; grep -c ' /etc .* tmpfs ' /proc/self/mountinfo; ls /none";
    let mut container = Container::shell(script);
    std::os::unix::fs::symlink("busybox", container.path("/bin/stat")).unwrap();
    fs::create_dir(container.path("/etc/deep")).unwrap();
    fs::write(container.path("/etc/one"), "1\n").unwrap();
    fs::write(container.path("/etc/deep/two"), "2\n").unwrap();
    std::os::unix::fs::symlink("/etc/one", container.path("/etc/link")).unwrap();
    for (path, mode) in [("/etc/one", 0o4750), ("/etc/deep", 0o1771)] {
        std::os::unix::fs::chown(container.path(path), Some(7), Some(8)).unwrap();
        fs::set_permissions(container.path(path), std::os::unix::fs::PermissionsExt::from_mode(mode))
            .unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        fs::File::open(container.path(path)).unwrap().set_modified(time).unwrap();
    }
    push(&mut container, mount("/etc", "tmpfs", "tmpfs", &["tmpcopyup", "mode=755", "nosuid"]));
    push(&mut container, mount("/none", "tmpfs", "tmpfs", &["tmpcopyup", "ro"]));
    assert_eq!(container.stdout(), "1\n2\n/etc/one\n4750:7:1000000\n1771:7:1000000\n1");
    assert!(!container.path("/etc/new").exists());
}

#[test]
fn an_overlay_is_mounted_from_the_hosts_folders() {
    let mut container = Container::shell("cat /data/low; echo new > /data/made");
    for name in ["lower", "upper", "work"] {
        fs::create_dir(container.outside(name)).unwrap();
    }
    fs::write(container.outside("lower").join("low"), "low\n").unwrap();
    let option = |key: &str, name: &str| format!("{key}={}", container.outside(name).display());
    let options = [option("lowerdir", "lower"), option("upperdir", "upper"), option("workdir", "work")];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let overlay = mount("/data", "overlay", "overlay", &options);
    push(&mut container, overlay);
    assert_eq!(container.stdout(), "low");
    assert!(container.outside("upper").join("made").exists());
}

#[test]
fn options_that_mean_nothing_are_refused() {
    for (kind, option) in [("bind", "size=1k"), ("bind", "no-such"), ("tmpfs", "no-such"), ("tmpfs", "idmap")]
    {
        let mut container = Container::new(&["true"]);
        let source = source(&container);
        push(&mut container, mount("/x", kind, &source, &[option]));
        let output = container.run();
        assert_eq!(output.status.code(), Some(125), "{kind} {option}");
        assert!(stderr(&output).contains(option) || option == "idmap", "{}", stderr(&output));
    }
}
